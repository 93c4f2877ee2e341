//! Pictures, read as XML: every node is there once, and no box covers another.

use std::collections::BTreeMap;

use ltmc_draw::{Figure, Seen, Status};
use ltmc_model::workflow::{Document, Node};
use proptest::prelude::*;

/// A box of a picture.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn is_apart(&self, other: &Self) -> bool {
        self.right < other.left || other.right < self.left || self.bottom < other.top || other.bottom < self.top
    }

    fn has_inside(&self, other: &Self) -> bool {
        self.left < other.left && other.right < self.right && self.top < other.top && other.bottom < self.bottom
    }
}

/// Every place of a document, those of who judges among them.
fn places(document: &Document) -> Vec<String> {
    let mut places: Vec<String> = document.places().iter().map(|(place, _)| place.clone()).collect();
    let judges = document.places().into_iter().filter(|(_, node)| node.validate.is_some());
    places.extend(judges.map(|(place, node)| format!("{place}/{}", node.validator())));
    places.sort();
    places
}

/// Whether the box at `place` has the one at `below` in it: what judges and what is done in a node's place stand beside it.
fn is_in(document: &Document, below: &str, place: &str) -> bool {
    let Some(rest) = below.strip_prefix(place).and_then(|rest| rest.strip_prefix('/')) else { return false };
    let first = rest.split('/').next().unwrap_or_default();
    let places = document.places();
    let node = places.iter().find(|(one, _)| one == place).map(|(_, node)| *node).expect("a node");
    first == "*" || first.parse().is_ok_and(|number: usize| number < Node::FALLBACK && number != node.validator())
}

fn check(document: &Document, svg: &str) {
    let xml = roxmltree::Document::parse(svg).unwrap_or_else(|e| panic!("{e}\n{svg}"));
    let number = |node: roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let root = xml.root_element();
    let (width, height) = (number(root, "width"), number(root, "height"));
    let mut areas: BTreeMap<String, Area> = BTreeMap::new();
    for node in xml.descendants().filter(|node| node.attribute("data-path").is_some()) {
        let path = node.attribute("data-path").unwrap().to_owned();
        let rect = node.children().find(|child| child.has_tag_name("rect")).unwrap();
        let (left, top) = (number(rect, "x"), number(rect, "y"));
        let area = Area { left, top, right: left + number(rect, "width"), bottom: top + number(rect, "height") };
        assert!(
            left >= 0.0 && top >= 0.0 && area.right <= width && area.bottom <= height,
            "{path} is outside: {area:?}"
        );
        for text in node.children().filter(|child| child.has_tag_name("text")) {
            let end = number(text, "x") + text.text().unwrap_or_default().chars().count() as f64 * 7.2;
            assert!(end <= area.right && number(text, "y") <= area.bottom, "a text of {path} is outside of its box");
        }
        assert!(areas.insert(path.clone(), area).is_none(), "{path} is drawn twice");
    }
    assert_eq!(areas.keys().cloned().collect::<Vec<_>>(), places(document));
    for (path, area) in &areas {
        for (other, there) in areas.iter().filter(|(other, _)| *other > path) {
            match is_in(document, other, path) {
                true => assert!(area.has_inside(there), "{other} is not within {path}: {there:?}, {area:?}"),
                false => assert!(area.is_apart(there), "{other} covers {path}: {there:?}, {area:?}"),
            }
        }
    }
}

const EVERYTHING: &str = r#"
name: everything
flow:
  sequence:
    - agent: read
      timeout: 20s
      retry: {attempts: 2, on: [agent-error, limit-wall]}
      validate: {json-schema: {type: object}}
    - parallel: {legal: {agent: legal}, cost: {agent: cost, when: {pick: $.input.cost, at-least: 10}}}
      id: both
      need: {share: 0.5}
      validate: {agent: check}
    - map: {pick: $.input.files, else: []}
      as: file
      do: {sequence: [{agent: look, with: {line: $.item.file}, fallback: [{agent: glance}, {agent: guess}]}]}
    - choice:
        - when: {all: [{pick: $.input.kind, in: [bug, 1]}, {not: {pick: $.input.x, prefix: "<a & \"b\">"}}]}
          do: {agent: fix}
        - else: {sequence: [{agent: sort-out}, {agent: tidy}]}
    - {workflow: audit, id: audited}
    - {plan: {agent: planner, may: [search]}, compensate: {agent: undo}}
    - {need: sum it up, among: [brief, short], id: sum}
    - parallel: {one: {agent: one}, two: {agent: two}}
      collect: {agent: editor, fallback: [{agent: joiner}], validate: {agent: check}}
    - {map: $.input.readers, do: {agent: vote}, collect: {vote: /verdict, tie: {agent: arbiter}}}
    - debate: {among: [pro, con], next: {agent: chair}, rounds: 6, until: {pick: $.last.agreed, equals: true}, close: {agent: closer}}
    - {debate: {among: [left, {agent: right, timeout: 1m}], rounds: 2}}
    - loop: {sequence: [{agent: write, with: {round: $.round}}, {agent: critique}]}
      until: {pick: $.steps.critique.output.ok, equals: true}
      at-most: 5
      fallback: [{agent: reserve, validate: {agent: check}}]
      on-error: [{when: {pick: $.error.code, equals: loop-stalled}, do: {agent: apologise}}, {do: {agent: report}}]
"#;

fn document(source: &str) -> Document {
    Document::parse(source, None).unwrap_or_else(|faults| panic!("{faults}\n{source}"))
}

#[test]
fn every_pattern_and_modifier_is_drawn() {
    let document = document(EVERYTHING);
    let svg = Figure::of(&document).svg("everything");
    check(&document, &svg);
    assert!(svg.contains("begins with &quot;&lt;a &amp; \\&quot;b\\&quot;&gt;&quot;"), "{svg}");
    let own = svg.replace("http://www.w3.org/2000/svg", "").replace("url(#head)", "");
    assert!(!own.contains("http") && !own.contains("url("), "it refers to nothing outside of itself: {svg}");
}

#[test]
fn the_text_has_a_line_for_every_node() {
    let document = document(EVERYTHING);
    let text = Figure::of(&document).text("everything");
    assert_eq!(text.lines().count(), 1 + places(&document).len(), "{text}");
    let expected = "\
everything
└─ sequence
   ├─ read  · retry 2 attempts, backoff 200ms on agent-error, limit-wall  · timeout 20s
   │  └┄ validate by json-schema
   ├─ both (parallel)  · need share 0.5
   │  ├─ legal: legal
   │  ├─ cost: cost  · when $.input.cost ≥ 10
   │  └┄ validate by check
   ├─ map  · each of $.input.files, else [] as file  · at-once 16
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("   ├┄ fallback 1: reserve") && text.contains("else: sequence"), "{text}");
}

#[test]
fn a_run_is_shown_with_what_became_of_it() {
    let document = document(EVERYTHING);
    let seen = |path: &str, status, note: &str| Seen { path: path.into(), status, note: note.into() };
    let seen = [
        seen("0/0", Status::Completed, "12 ms"),
        seen("0/2/0/0", Status::Completed, ""),
        seen("0/2/1/0", Status::Failed, ""),
        seen("0/3/1/0", Status::Skipped, ""),
    ];
    let figure = Figure::of(&document).with(&seen);
    let svg = figure.svg("everything");
    check(&document, &svg);
    let xml = roxmltree::Document::parse(&svg).unwrap();
    let class = |path: &str| {
        let node = xml.descendants().find(|node| node.attribute("data-path") == Some(path)).unwrap();
        node.attribute("class").unwrap().to_owned()
    };
    assert!(class("0/0").contains("completed") && class("0/2/*/0").contains("failed"));
    assert!(class("0/3/1/0").contains("skipped") && !class("0/1").contains("pending"));
    assert!(figure.text("everything").contains("[1 failed, 1 completed]"));
}

/// What somebody wrote is text, whatever it is.
#[test]
fn a_document_cannot_write_into_its_picture() {
    let evil = "</text><script>alert(1)</script>\\u0000\\u001b[2J\\u202e]]>";
    let source = format!(
        "{{\"name\": \"evil\", \"flow\": {{\"agent\": \"a\", \"when\": {{\"pick\": \"$.input/{}\", \"equals\": \"{evil}\"}}}}}}",
        evil.replace('/', "~1")
    );
    let document = document(&source);
    let svg = Figure::of(&document).svg("evil");
    check(&document, &svg);
    let xml = roxmltree::Document::parse(&svg).unwrap();
    assert!(!xml.descendants().any(|node| node.has_tag_name("script")));
    assert!(!svg.contains(['\0', '\u{1b}', '\u{202e}']) && !Figure::of(&document).text("evil").contains('\u{1b}'));
}

/// A node of every kind, in any nesting. Agents' names are counted up afterwards.
fn nodes() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("{agent: a@@}".to_owned()),
        Just("{agent: a@@, validate: {agent: judge}, retry: {}}".to_owned()),
        Just(
            "{agent: a@@, when: {pick: $.input.kind, equals: a rather long text that has to be cut somewhere}}"
                .to_owned()
        ),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        let list = |nodes: Vec<String>| nodes.join(", ");
        prop_oneof![
            several.clone().prop_map(move |nodes| format!("{{sequence: [{}]}}", list(nodes))),
            several
                .clone()
                .prop_map(move |nodes| format!("{{parallel: [{}], validate: {{json-schema: true}}}}", list(nodes))),
            several.clone().prop_map(move |nodes| {
                let option = |node: &String| format!("{{when: {{pick: $.input.n, less: 3}}, do: {node}}}");
                format!("{{choice: [{}]}}", list(nodes.iter().map(option).collect()))
            }),
            inner.clone().prop_map(|node| format!("{{map: $.input.list, do: {node}}}")),
            inner.clone().prop_map(|node| format!("{{loop: {node}, at-most: 3}}")),
            inner.clone().prop_map(|node| format!(
                "{{parallel: [{node}], collect: {{agent: a@@, fallback: [{{agent: a@@}}]}}}}"
            )),
            Just(
                "{debate: {among: [a@@, {agent: a@@, validate: {agent: judge}}], next: {agent: a@@}, rounds: 2}}"
                    .to_owned()
            ),
            (several, inner).prop_map(move |(nodes, node)| {
                let handlers = nodes.iter().map(|node| format!("{{do: {node}}}")).collect();
                format!("{{sequence: [{node}], fallback: [{}], on-error: [{}]}}", list(nodes.clone()), list(handlers))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_nested_stands_apart(flow in nodes()) {
        let mut parts = flow.split("@@");
        let first = parts.next().unwrap_or_default().to_owned();
        let flow = parts.enumerate().fold(first, |all, (number, part)| format!("{all}{number}{part}"));
        let document = document(&format!("{{name: drawn, flow: {flow}}}"));
        check(&document, &Figure::of(&document).svg("drawn"));
    }
}
