//! A standard program: gives back what it reads.

fn main() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).expect("both ends are open");
}
