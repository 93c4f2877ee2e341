//! Tries to read and to write files; a line for each that it could.

fn main() {
    for path in ["/etc/passwd", "/", ".", "..", "/proc/self/environ", "record.db", "/tmp"] {
        if std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok() {
            println!("read {path}");
        }
    }
    for path in ["/tmp/ltmc-was-here", "ltmc-was-here"] {
        if std::fs::write(path, "x").is_ok() {
            println!("wrote {path}");
        }
    }
}
