//! The pictures in the docs are those of the documents beside them.

#[path = "../examples/docs.rs"]
mod docs;

#[test]
fn the_pictures_in_the_docs_show_the_documents_there() {
    let folder = docs::folder();
    let page = std::fs::read_to_string(folder.join("workflows.md")).unwrap();
    let pictures = docs::pictures(&page);
    let nodes = page.split("\n## ").find(|part| part.starts_with("Nodes\n")).unwrap();
    for section in nodes.split("\n### ").skip(1).filter(|section| section.contains("```yaml")) {
        let has_picture = section.contains("](pictures/") || section.starts_with("a context of their own");
        assert!(has_picture, "no picture of {}", section.lines().next().unwrap_or_default());
    }
    for (path, svg) in pictures {
        let there = std::fs::read_to_string(folder.join(&path)).unwrap_or_default();
        assert!(
            there == svg,
            "docs/{path} is of another document: `cargo run -p ltmc-draw --example docs` draws it anew"
        );
    }
}
