use super::*;

fn headings(document: &Document) -> Vec<(&str, String, usize)> {
    let shown = |section: &Section| section.heading.join(" > ");
    document.sections.iter().map(|section| (section.anchor.as_str(), shown(section), section.line)).collect()
}

fn owned<'a>(sections: &[(&'a str, &str, usize)]) -> Vec<(&'a str, String, usize)> {
    sections.iter().map(|(anchor, heading, line)| (*anchor, (*heading).to_owned(), *line)).collect()
}

#[test]
fn headings_divide_and_stand_under_each_other() {
    let source = "\
before

# One #
text one

### Three *deep* `code`
text three
## Two
text two
# Last
";
    let document = Document::parse(source);
    let expected = owned(&[
        ("", "", 1),
        ("one", "One", 3),
        ("three-deep-code", "One > Three deep code", 6),
        ("two", "One > Two", 8),
        ("last", "Last", 10),
    ]);
    assert_eq!(headings(&document), expected);
    let texts: Vec<&str> = document.sections.iter().map(|section| section.text.as_str()).collect();
    assert_eq!(texts, ["before", "text one", "text three", "text two", ""]);
}

#[test]
fn what_only_looks_like_a_heading_divides_nothing() {
    let source = "\
# Real

```console
# a comment
## another
```

~~~~
~~~
# still code
~~~~

    # indented code

<!--
# a comment in HTML
-->

#hashtag and \\# escaped, `# code`

| # not |
| --- |

####### seven
";
    let document = Document::parse(source);
    assert_eq!(headings(&document), owned(&[("", "", 1), ("real", "Real", 1)]));
    assert!(document.sections[1].text.ends_with("####### seven"));
}

#[test]
fn a_fence_that_is_never_closed_goes_to_the_end() {
    let document = Document::parse("# A\n```\n# B\n\n# C\n");
    assert_eq!(headings(&document), owned(&[("", "", 1), ("a", "A", 1)]));
    assert_eq!(document.sections[1].text, "```\n# B\n\n# C");
}

#[test]
fn underlined_headings_are_headings() {
    let document = Document::parse("Title\nof two lines\n=====\n\ntext\n\nSub\n---\nmore\n\n---\nrule\n");
    let expected =
        owned(&[("", "", 1), ("title-of-two-lines", "Title of two lines", 1), ("sub", "Title of two lines > Sub", 7)]);
    assert_eq!(headings(&document), expected);
    assert_eq!(document.sections[1].text, "text");
    assert_eq!(document.sections[2].text, "more\n\n---\nrule");
}

#[test]
fn anchors_are_each_once_and_as_github_makes_them() {
    let source = "# A b\n# A-b\n# A b 1\n# a B\n# Was ist «Größe»?\n# x_y `z()` & more: 1.0\n# !!!\n# \n# Own {#mine}\n# [Linked](x.md)\n";
    let document = Document::parse(source);
    let anchors: Vec<&str> = document.sections[1..].iter().map(|section| section.anchor.as_str()).collect();
    let expected = [
        "a-b",
        "a-b-1",
        "a-b-1-1",
        "a-b-2",
        "was-ist-größe",
        "x_y-z--more-10",
        "section",
        "section-1",
        "mine",
        "linked",
    ];
    assert_eq!(anchors, expected);
    assert_eq!(document.sections[8].heading, Vec::<String>::new());
}

#[test]
fn headings_in_quotes_and_lists_are_anchors_of_the_section_around_them() {
    let document = Document::parse(
        "# A\n> ## Quoted\n> text\n\n- ## Listed\n\n<a id=\"old-name\"></a>\n<p name='p'>x</p>\n\n## B\n",
    );
    assert_eq!(headings(&document), owned(&[("", "", 1), ("a", "A", 1), ("b", "A > B", 10)]));
    let leads = |anchor: &str| document.anchors.get(anchor).copied();
    assert_eq!([leads("quoted"), leads("listed"), leads("old-name"), leads("p")], [Some(1); 4]);
    assert_eq!((leads("b"), leads("none")), (Some(2), None));
}

#[test]
fn links_say_where_they_stand() {
    let source = "\
[a](a.md) ![an image](i.png)
# H [b](<b c.md#d> \"title\")
<https://example.org> <ada@example.org>
[ref][r] [R] [missing][m] `[code](c.md)`

```
[fenced](f.md)
```

| [cell](t.md) |
| --- |

[r]: r.md#x
";
    let document = Document::parse(source);
    let links: Vec<(usize, usize, &str)> =
        document.links.iter().map(|link| (link.section, link.line, link.target.as_str())).collect();
    let expected = [
        (0, 1, "a.md"),
        (0, 1, "i.png"),
        (1, 2, "b c.md#d"),
        (1, 3, "https://example.org"),
        (1, 4, "r.md#x"),
        (1, 4, "r.md#x"),
        (1, 10, "t.md"),
    ];
    assert_eq!(links, expected);
}

#[test]
fn every_kind_of_line_end_counts() {
    for (source, text) in [
        ("# A\r\nx\r\ny\r\n\r\n## B\r\nz", "x\ny"),
        ("# A\nx\ny\n\n## B\nz", "x\ny"),
        ("# A\rx\ry\r\r## B\rz", "x\ny"),
        ("\u{feff}# A\r\nx\ny\n\r\n## B\r\nz", "x\ny"),
    ] {
        let document = Document::parse(source);
        assert_eq!(headings(&document), owned(&[("", "", 1), ("a", "A", 1), ("b", "A > B", 5)]), "{source:?}");
        assert_eq!(document.sections[1].text, text, "{source:?}");
    }
}

#[test]
fn front_matter_is_no_heading() {
    let document = Document::parse("---\r\ntitle: x\r\n---\r\n# A\r\ntext\r\n");
    assert_eq!(headings(&document), owned(&[("", "", 4), ("a", "A", 4)]));
    let document = Document::parse("---\nno end\n");
    assert_eq!(document.sections[0].text, "---\nno end");
}

#[test]
fn nothing_is_something_too() {
    for source in ["", "\n", " \r\n\t\n", "\u{feff}", "---", "---\n---\n"] {
        let document = Document::parse(source);
        assert_eq!(document.sections.len(), 1, "{source:?}");
        assert!(document.sections[0].text.is_empty() || source.starts_with("---"), "{source:?}");
    }
    let blank = Document::parse("\n\n    code\n");
    assert_eq!((blank.sections[0].text.as_str(), blank.sections[0].line), ("    code", 3));
}

#[test]
fn a_hostile_document_is_read_in_time() {
    let deep = "> ".repeat(20_000) + "# x";
    let many = "# a\n".repeat(20_000);
    let links = "[a](b.md) ".repeat(20_000);
    let open = "[".repeat(50_000);
    let html = "<a ".repeat(20_000);
    for source in [deep, many, links, open, html] {
        let begun = std::time::Instant::now();
        let document = Document::parse(&source);
        assert!(!document.sections.is_empty());
        assert!(begun.elapsed().as_secs() < 20, "{:?}: {}", begun.elapsed(), &source[..20]);
    }
}
