//! The pictures in the docs are those of the documents beside them.

#[path = "../examples/docs.rs"]
mod docs;

#[test]
fn the_pictures_in_the_docs_show_the_documents_there() {
    let folder = docs::folder();
    let page = std::fs::read_to_string(folder.join("workflows.md")).unwrap();
    let pictures = docs::pictures(&page);
    assert!(pictures.len() >= 6);
    for (path, svg) in pictures {
        let there = std::fs::read_to_string(folder.join(&path)).unwrap_or_default();
        assert!(
            there == svg,
            "docs/{path} is of another document: `cargo run -p ltmc-draw --example docs` draws it anew"
        );
    }
}
