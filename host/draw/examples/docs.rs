//! Draws the pictures of docs/workflows.md anew: `cargo run -p ltmc-draw --example docs`. A page that has `![…](pictures/NAME.svg)` has a
//! document called `NAME`.

use std::path::{Path, PathBuf};

use ltmc_draw::Figure;
use ltmc_model::workflow::Document;

/// Where the page stands.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Every picture that the page has, by its path from there.
pub(crate) fn pictures(page: &str) -> Vec<(String, String)> {
    let documents: Vec<Document> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| Document::parse(rest.split("```").next()?, None).ok())
        .collect();
    let named = page.split("](pictures/").skip(1).filter_map(|rest| rest.split(".svg)").next());
    let drawn = |name: &str| {
        let document = documents.iter().find(|document| document.name.as_str() == name);
        let document = document.unwrap_or_else(|| panic!("the page has a picture of `{name}`, and no such document"));
        (format!("pictures/{name}.svg"), Figure::of(document).svg(name))
    };
    named.map(drawn).collect()
}

#[allow(dead_code, reason = "a test includes this file for its pictures")]
fn main() -> std::io::Result<()> {
    let page = std::fs::read_to_string(folder().join("workflows.md"))?;
    pictures(&page).into_iter().try_for_each(|(path, svg)| std::fs::write(folder().join(path), svg))
}
