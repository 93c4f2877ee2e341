//! What documents are taken, and what is said of those that are not.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::StepPath;
use crate::fork::Policy;

const REVIEW: &str = r#"
name: review
flow:
  sequence:
    - agent: read-diff
      validate: {json-schema: {type: object, required: [files]}}
    - agent: scan-secrets@sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
      id: secrets
      with:
        files: $.steps.read-diff.output.files
        deep: [{first: $.input/a~1b/0, price: $$5}, 7]
      validate: {agent: check-findings}
    - sequence:
        - agent: write-report
          with: $.steps.secrets.output
          retry: {attempts: 5, backoff: 250ms, factor: 1.5, max: 1m}
"#;

fn faults(source: &str) -> Vec<String> {
    let name = "review".parse().unwrap();
    let faults = Document::parse(source, Some(&name)).expect_err("it should have been refused");
    faults.0.iter().map(|f| format!("{}:{} {}", f.place.line, f.place.column, f.message)).collect()
}

fn told(source: &str, places: &[(&str, &str)]) {
    let faults = faults(source);
    for (at, words) in places {
        assert!(
            faults.iter().any(|fault| fault.starts_with(&format!("{at} ")) && fault.contains(words)),
            "no fault at {at} with `{words}` in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), places.len(), "{faults:#?}");
}

#[test]
fn a_document_and_its_canonical_form_are_one() {
    let document = Document::parse(REVIEW, None).unwrap();
    let json = document.to_json();
    assert_eq!(Document::from_json(&json).unwrap(), document);
    assert_eq!(Document::parse(&json, None).unwrap(), document);
    assert_eq!(Document::from_json(&json).unwrap().to_json(), json);
    let steps = document.steps();
    let names: Vec<&str> = steps.iter().map(|s| s.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(names, ["read-diff", "secrets", "write-report"]);
    assert_eq!((steps[1].place.line, steps[1].place.column), (7, 14));
    assert_eq!(steps[0].retry, Retry::none());
    assert_eq!(steps[2].retry.max, Duration::from_secs(60));
    assert_eq!(document.agents().filter(|(.., part)| *part == Part::Judge).count(), 1);
}

#[test]
fn a_workflow_does_not_start_itself() {
    let source = "name: review\nflow:\n  sequence:\n    - agent: a\n    - workflow: other\n    - workflow: review\n      when: {pick: $.input, equals: 1}\n";
    told(source, &[("6:17", "`review` starts itself, and would never end")]);
    assert!(Document::parse("name: outer\nflow: {workflow: review}", None).is_ok());
}

#[test]
fn a_lone_agent_is_a_flow() {
    let document = Document::parse("{name: one, flow: {agent: a, retry: {}}}", None).unwrap();
    assert!(matches!(document.flow.does, Does::Agent(_)));
    assert_eq!(document.flow.retry, Retry::default());
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    told(
        r#"name: revue
flwo: 1
flow:
  sequence:
    - agent: Read_Diff
    - agent: b
      retry: {attempts: 0, backof: 1s, factor: 99, max: 10ms}
      wth: 1
    - agent: b
    - parallel: {branches: []}
    - agent: c
      compensate: {agent: c}
      with: {x: $.steps.later.output, y: $.steps.c.output, z: $.steps.bb.output, w: $.inputs, v: $nothing}
      validate: {json-schema: 7}
    - agent: later
      validate: {}
    - {}
    - 12
    - agent: d@sha256:12
    - agent: e
      agent: f
    - sequence: []
    - agent: 5
"#,
        &[
            ("1:7", "called `revue` and is put under `review`"),
            ("2:1", "did you mean `flow`?"),
            ("5:14", "`Read_Diff` is not an agent's name"),
            ("7:25", "whole number from 1 to 100"),
            ("7:28", "did you mean `backoff`?"),
            ("7:48", "from 1 to 10"),
            ("7:57", "at least as long as `backoff`"),
            ("8:7", "did you mean `with`?"),
            ("9:14", "taken by the one at line 6, column 14"),
            ("10:28", "is an object, this is a list"),
            ("12:27", "taken by the one at line 11, column 14"),
            ("13:17", "does not come before"),
            ("13:42", "its own output: a cycle"),
            ("13:63", "did you mean `b`?"),
            ("13:85", "follows neither"),
            ("13:98", "begins with neither"),
            ("14:31", "this is a number"),
            ("16:17", "one of `json-schema` and `agent`"),
            ("17:7", "has `agent`, `sequence` or another pattern"),
            ("18:7", "is an object, this is a number"),
            ("19:14", "not a digest"),
            ("21:7", "second time"),
            ("22:7", "`sequence` is empty"),
            ("23:14", "`agent` is a text, this is a number"),
        ],
    );
}

#[test]
fn json_has_places_too() {
    told("{\"name\": \"review\",\n  \"flow\": {\"agnet\": \"x\"}}", &[("2:11", "did you mean `agent`?")]);
    let emoji = r#"{"name": "x", "flow": {"agent": "a", "with": {"t": "\ud83d\ude00 é"}}}"#;
    let document = Document::parse(emoji, None).unwrap();
    assert!(document.to_json().contains("😀 é"));
}

#[test]
fn what_is_not_yaml_is_said_once() {
    for (source, words) in [
        ("", "empty"),
        ("a: [1", "not a YAML or JSON document"),
        ("name: x\n\tflow: y", "not a YAML or JSON document"),
        ("- 1", "is an object, this is a list"),
        ("name: x\n---\nname: y", "not a YAML or JSON document"),
    ] {
        let faults = faults(source);
        assert_eq!(faults.len(), 1, "{source:?}: {faults:?}");
        assert!(faults[0].contains(words), "{faults:?}");
    }
    let faults = faults("name: review\nflow: {agent: [}");
    assert!(faults[0].starts_with("2:"), "{faults:?}");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..20 {
        laughs += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    let started = std::time::Instant::now();
    for source in [
        laughs,
        format!("name: review\nflow: {}", "{sequence: [".repeat(1_000)),
        "[".repeat(1_000_000),
        "- ".repeat(500_000),
        format!("name: review\nflow: {{agent: a, with: {}{}}}", "[".repeat(1_000), "]".repeat(1_000)),
        format!("name: review\nx: {}", "a".repeat(MAX_LEN)),
        (0..200_000).map(|_| "- 1\n").collect::<String>(),
    ] {
        let t = std::time::Instant::now();
        let f = faults(&source);
        eprintln!(
            "{:?} {} {:?}",
            t.elapsed(),
            &source[..20],
            f.first().map(|f| f.chars().take(150).collect::<String>())
        );
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn depth_and_number_of_steps_are_bounded() {
    let nested = |depth: usize| {
        format!("name: review\nflow: {}{{agent: a}}{}", "{sequence: [".repeat(depth), "]}".repeat(depth))
    };
    Document::parse(&nested(MAX_DEPTH - 1), None).unwrap();
    assert!(faults(&nested(MAX_DEPTH))[0].contains("at most 32 deep"));

    let steps = |count: usize| {
        let steps: String = (0..count).map(|i| format!("    - {{agent: a, id: s{i}}}\n")).collect();
        format!("name: review\nflow:\n  sequence:\n{steps}")
    };
    assert_eq!(Document::parse(&steps(MAX_STEPS), None).unwrap().steps().len(), MAX_STEPS);
    assert!(faults(&steps(MAX_STEPS + 1))[0].contains("at most 1000 steps"));
    for of in ["sequence", "parallel", "choice"] {
        let nodes = |count: usize| {
            let node = if of == "choice" { "{when: {pick: $.input, equals: 1}, do: {wait: 0s}}" } else { "{wait: 0s}" };
            format!("name: review\nflow: {{{of}: [{}]}}", vec![node; count].join(", "))
        };
        Document::parse(&nodes(MAX_NODES - 1), None).unwrap();
        assert!(faults(&nodes(MAX_NODES))[0].contains("at most 5000 nodes, this one has 5001"), "{of}");
    }
    let many = faults(
        &"name: review\nflow: {agent: a}\n"
            .replace("a}", "a, x: }")
            .replace("x: ", &(0..500).map(|i| format!("x{i}: 1, ")).collect::<String>()),
    );
    assert_eq!(many.len(), MAX_FAULTS);
    assert!(many.iter().any(|fault| fault.contains("and 401 more")), "{many:?}");
}

#[test]
fn one_document_uses_one_version_of_an_agent() {
    let digest = Digest::of(b"x");
    told(
        &format!("name: review\nflow:\n  sequence:\n  - agent: a\n  - agent: a@{digest}\n    id: b\n"),
        &[("5:12", "one version of an agent")],
    );
}

#[test]
fn picks_read_back() {
    for (text, canonical, path) in [
        ("$.input", "$.input", &[][..]),
        ("$.input.files.0.path", "$.input.files.0.path", &["files", "0", "path"]),
        ("$.input/files/0/path", "$.input.files.0.path", &["files", "0", "path"]),
        ("$.steps.x.output/a~1b/c.d", "$.steps.x.output/a~1b/c.d", &["a/b", "c.d"]),
        ("$.steps.x/a~1b/", "$.steps.x.output/a~1b/", &["a/b", ""]),
    ] {
        let pick: Pick = text.parse().unwrap();
        assert_eq!(pick.to_string(), canonical);
        assert_eq!(canonical.parse::<Pick>().unwrap(), pick);
        assert_eq!(pick.path, path);
    }
    for text in [
        "$",
        "$.",
        "$.input.",
        "$.input..a",
        "$.inputx",
        "$.steps",
        "$.steps.",
        "$.steps.x",
        "$.steps.x.out",
        "$.steps.X.output",
        "$.input/~2",
        "$.input.a/b",
    ] {
        assert!(text.parse::<Pick>().is_err(), "{text}");
    }
}

#[test]
fn back_off_grows_to_its_bound_and_no_further() {
    let retry = Retry::default();
    let waits: Vec<u128> = (1..=12).map(|n| retry.longest_wait(n).as_millis()).collect();
    assert_eq!(waits[..4], [200, 400, 800, 1_600]);
    assert_eq!(waits[11], 30_000);
    assert_eq!(retry.longest_wait(u32::MAX), retry.max);
}

#[test]
fn words_that_old_yaml_took_for_truth_are_texts() {
    let source = "name: review\nflow: {agent: a, validate: {json-schema: {required: [n, no, off, yes], const: true}}}";
    let document = Document::parse(source, None).unwrap();
    let Some(Validate::Schema { schema, .. }) = &document.steps()[0].validate else { panic!("a schema") };
    assert_eq!(schema, &json!({"required": ["n", "no", "off", "yes"], "const": true}));
}

pub(super) const EVERYTHING: &str = r#"
name: everything
on: [{schedule: 0 6 * * 1-5, zone: Europe/Berlin, overlap: parallel, catch-up: 2h, input: {a: 1}}, {topic: orders, where: {all: [{exact: {type: order.paid}}, {prefix: {subject: a}}, {suffix: {subject: z}}, {pick: $.data.sum, at-least: 10}]}, at-once: 2, on-poison: skip, rate: {starts: 10, per: 1m}}, {memory: board/, scope: agent, owner: x, debounce: 5s}, {topic: b, batch: {events: 20, within: 10s}}, {topic: c, join: {of: {paid: {exact: {type: p}}, packed: {pick: $.data.k, equals: 1}}, by: $.data.order, need: all, within: 1h}}]
flow:
  sequence:
    - agent: read
      timeout: 20s
      retry: {attempts: 2, on: [agent-error, limit-wall], then: fail}
    - parallel: {legal: {agent: legal}, cost: {agent: cost, when: {pick: $.input.cost, at-least: 10}}}
      context: {fork: [session, messages], merge: {plan/: {prefer: [legal]}, p/: {agent: weigh, timeout: 1m}, q/: {ask: {of: admin, remind: {every: 1h, topic: approvals}}, id: weighed, timeout: 2days}, "*": ask}}
      id: both
      need: {share: 0.5}
      on-failure: continue
      on-loss: finish
      at-once: 1
      collect: list
      validate: {agent: check}
    - map: {pick: $.steps.read.output.files, else: []}
      as: file
      at-once: 8
      tolerate: {share: 0.05}
      do:
        map: $.item.file/a.b
        do: {agent: look, with: {line: $.item, number: $.index, file: $.item.file.name}}
    - choice:
        - when: {all: [{pick: $.input.kind, in: [bug, 1]}, {any: [{pick: $.steps.legal.output, exists: false}, {not: {pick: $.input.x, prefix: a}}]}]}
          do: {agent: fix}
        - when: {pick: $.input.kind, suffix: z, else: xyz}
          do: {agent: other}
        - else: {agent: sort-out}
    - loop: {sequence: [{agent: write, with: {before: {pick: $.last.text, else: null}, round: $.round}}, {agent: critique}]}
      until: {pick: $.steps.critique.output.ok, equals: true}
      at-most: 5
      stall: 2
      fallback: [{agent: reserve, with: {why: $.error.message}}]
      on-error: [{when: {pick: $.error.code, equals: loop-stalled}, do: {agent: apologise}}, {do: {agent: report}}]
    - {wait: 1h 30m, when: {pick: $.input.later, equals: true}}
    - wait: {until: {pick: $.input.at, else: 2030-01-01T00:00:00Z}}
      timeout: 2days
    - {wait: {until: "2030-01-01T00:00:00.5Z"}}
    - {wait: 0s, id: pause}
    - wait: {topic: orders, match: {type: order.paid, subject: $.input.id}, where: {pick: $.event.data.sum, at-least: 3}, since: run}
      timeout: 1day
    - {wait: {topic: orders, match: {subject: one}}}
    - {wait: {topic: orders}}
    - ask: {title: "Publish?", of: author, show: {it: $.steps.read.output}, schema: {type: boolean}}
      id: ok
    - ask: {title: And?, of: admin, remind: {every: 4h, topic: approvals}}
    - emit: {topic: reviews, type: review.done, subject: $.input.id, data: [$.steps.ok.output, $$x]}
    - emit: {topic: reviews/all, type: review.done}
    - {workflow: audit, on-parent-end: abandon, id: audited}
    - {plan: {agent: planner, may: [search, write], depth: 2, at-most: 5, approve: admin}, compensate: {agent: undo, with: $.given}}
    - {need: sum up what was found, among: [brief, close], at-least: 0.5, id: sum-up}
    - parallel: {one: {agent: one}, two: {agent: two}}
      need: any
      collect: {agent: editor, with: {one: {pick: $.steps.one.output, else: null}}, retry: {attempts: 2}, compensate: {agent: undo, id: unedit}}
    - {parallel: [{agent: three}, {agent: four}], collect: {vote: /a~1b/c, rule: plurality, tie: {agent: judge}}}
    - {parallel: [{agent: five}], collect: {vote: ""}}
    - {parallel: {six: {agent: six}}, collect: merge}
    - {parallel: [{agent: eight}], need: any, collect: first}
    - map: $.steps.editor.output
      do: {agent: each}
      collect: {agent: gather, with: {all: $.input.all}}
    - debate:
        among: [pro, {agent: con, timeout: 1m, with: {chair: $.steps.chair.output, turn: $.round, said: {pick: $.last, else: null}}}]
        next: {agent: chair}
        rounds: 6
        until: {pick: $.last.agreed, equals: true}
        close: {agent: closer, validate: {json-schema: {type: object}}}
      id: argued
    - {debate: {among: [left, right], next: round-robin, rounds: 1}, with: $.steps.argued.output}
    - hand-off: {start: desk, among: [desk, {agent: money, timeout: 1m}], pass: {last: 3}, at-most: 4, per-pair: 1, idle: 1h}
      id: talked
    - {hand-off: {start: front, among: [front, back], pass: {fields: [order]}}, with: $.steps.talked.output}
    - hand-off: {start: in, among: [in, out], pass: summary}
    - agent: close
      with: {legal: {pick: $.steps.legal.output, else: none}, both: $.steps.both.output, plain: {deep: [$$x, {y: $$z}]}}
"#;

#[test]
fn every_pattern_and_modifier_has_one_form() {
    let document = Document::parse(EVERYTHING, None).unwrap_or_else(|faults| panic!("{faults}"));
    let json = document.to_json();
    let read = Document::from_json(&json).unwrap_or_else(|faults| panic!("{faults}: {json}"));
    assert_eq!(read, document);
    assert_eq!(read.to_json(), json);
    assert_eq!(document.nodes().len(), 82);
}

/// What runs are pinned to must not change with what is added later.
#[test]
fn the_form_of_what_there_was_before_is_as_it_was() {
    let document = Document::parse(REVIEW, None).unwrap();
    let before = r#"{"name":"review","flow":{"sequence":[{"agent":"read-diff","validate":{"json-schema":{"type":"object","required":["files"]}}},{"agent":"scan-secrets@sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f","id":"secrets","with":{"files":"$.steps.read-diff.output.files","deep":[{"first":"$.input/a~1b/0","price":"$$5"},7]},"validate":{"agent":"check-findings"}},{"sequence":[{"agent":"write-report","with":"$.steps.secrets.output","retry":{"attempts":5,"backoff":"250ms","factor":1.5,"max":"1m"}}]}]}}"#;
    assert_eq!(document.to_json(), before);
}

#[test]
fn what_is_wrong_with_a_hand_off_is_told_with_its_place() {
    told(
        r#"name: review
flow:
  sequence:
    - hand-off: {among: [a, b]}
    - hand-off: {start: c}
    - hand-off: {start: d, among: [e, f]}
    - hand-off: {start: g, among: [g]}
    - hand-off: {start: h, among: [h, {agent: h, id: again}]}
    - hand-off: {start: i, among: [i, j], pass: all, at-most: 33, per-pair: 0, idle: soon}
    - hand-off: {start: k, among: [k, l], pass: {last: 0}, hops: 3}
    - hand-off: {start: m, among: [m, n], pass: {last: 1, fields: [x]}}
    - hand-off: {start: o, among: [o, p], pass: {fields: []}}
    - hand-off: {start: q, among: [q, {sequence: [{agent: r}]}]}
"#,
        &[
            ("4:17", "`start` is missing"),
            ("5:17", "`among` is missing"),
            ("6:25", "`start` is `d`, which is none of those under `among`"),
            ("7:35", "names 2 to 20 agents, this one 1"),
            ("8:47", "`h` stands among them already"),
            ("9:49", "is one of `full`, `summary`"),
            ("9:63", "whole number from 1 to 32"),
            ("9:77", "whole number from 1 to 32"),
            ("9:86", "`idle` is a duration"),
            ("10:56", "`last` is a whole number"),
            ("10:60", "has no field `hops`"),
            ("11:49", "either `last` or `fields`"),
            ("12:58", "names 1 to 32 fields, this one 0"),
            ("13:39", "takes the step of an `agent`"),
        ],
    );
}

#[test]
fn what_is_wrong_with_what_makes_one_of_much_is_told_with_its_place() {
    told(
        r#"name: review
flow:
  sequence:
    - parallel: [{agent: a}, {agent: b}]
      collect: average
    - parallel: [{agent: c}, {agent: d}]
      need: any
      collect: {agent: e, with: {c: $.steps.c.output, d: {pick: $.steps.d.output, else: 1}}}
    - parallel: [{agent: f, with: $.steps.g.output}]
      collect: {agent: g}
    - parallel: [{agent: h}]
      collect: {need: a judge}
    - parallel: [{agent: i}]
      collect: {vote: /x, rule: most, tie: judge, quorum: 2}
    - parallel: [{agent: j}]
      collect: {vote: /x~2, tie: {wait: 1s}}
    - map: $.input
      do: {agent: k}
      collect: object
    - map: $.input
      do: {agent: l}
      collect: {agent: m, with: {l: $.steps.l.output, item: $.item}}
    - debate: {among: [n], rounds: 501}
    - debate: {among: [o, p, {agent: p}], next: o, until: {pick: $.steps.o.output, equals: 1}}
    - debate: {rounds: 1, next: {sequence: [{agent: q}]}, cloze: {agent: r}}
    - debate: {among: [s, t], rounds: 1, close: {agent: u, with: $.steps.s.output}}
    - debate: {among: [v, {agent: w, with: $.steps.v.output}], rounds: 1, next: {agent: x, with: $.steps.w.output}}
    - {agent: y, with: {a: $.steps.e.output, v: $.steps.v.output, u: $.steps.u.output}}
"#,
        &[
            ("5:16", "is one of `list`, `object`, `merge`"),
            ("8:37", "may give nothing"),
            ("9:35", "does not come before"),
            ("12:16", "`collect` takes the step of an `agent`"),
            ("14:33", "`rule` is one of `majority`, `plurality`, `unanimous`"),
            ("14:44", "is an object, this is a text"),
            ("14:51", "has no field `quorum`"),
            ("16:23", "`~` is written `~0`"),
            ("16:34", "`tie` takes the step of an `agent`"),
            ("19:16", "needs a name for every branch"),
            ("22:37", "is inside of a `map`"),
            ("22:61", "inside of a `map` only"),
            ("23:23", "names 2 to 20 agents, this one 1"),
            ("23:36", "whole number from 1 to 500"),
            ("24:15", "`rounds` is missing"),
            ("24:38", "is taken by the one at"),
            ("24:49", "or the chair"),
            ("25:15", "`among` is missing"),
            ("25:33", "`next` takes the step of an `agent`"),
            ("25:59", "did you mean `close`?"),
            ("26:66", "is inside of a `loop`, a `debate` or"),
            ("27:44", "another option"),
            ("27:98", "does not come before"),
            ("28:49", "is inside of a `loop`, a `debate` or"),
        ],
    );
}

/// What makes one of branches is an agent's that may export something else.
#[test]
fn who_collects_is_told_apart() {
    let source = "name: c\nflow: {sequence: [{parallel: [{agent: a}], collect: {agent: b, fallback: [{agent: c}]}}, {map: $.input, do: {agent: d}, \
                  collect: {vote: '', tie: {agent: e}}}, {debate: {among: [f, g], rounds: 1, close: {agent: h}}}]}";
    let document = Document::parse(source, None).unwrap_or_else(|faults| panic!("{faults}"));
    let collects = document.agents().filter(|(.., part)| *part == Part::Collect);
    assert_eq!(collects.map(|(agent, ..)| agent.name.to_string()).collect::<Vec<_>>(), ["b", "e"]);
    assert_eq!((document.agents().count(), document.steps().len()), (8, 8));
}

#[test]
fn what_was_rejected_is_picked_where_there_can_be_a_second_try() {
    let flow = |step: &str| {
        format!("name: review\nflow: {{agent: a, with: {{why: {{pick: $.rejected.message, else: none}}}}{step}}}")
    };
    let judged = ", validate: {json-schema: true}, retry: {attempts: 2, on: [validation-failed]}";
    Document::parse(&flow(judged), None).unwrap();
    for less in ["", ", validate: {json-schema: true}", ", retry: {attempts: 2}"] {
        let faults = Document::parse(&flow(less), None).unwrap_err();
        assert!(faults.to_string().contains("of a step that has `validate` and `retry`"), "{less}: {faults}");
    }
    let bare = format!("name: review\nflow: {{agent: a, with: {{why: $.rejected.message}}{judged}}}");
    let faults = Document::parse(&bare, None).unwrap_err();
    assert!(faults.to_string().contains("is not there at the first try"), "{faults}");
}

#[test]
fn what_is_wrong_with_patterns_is_told_with_its_place() {
    told(
        r#"name: review
flow:
  sequence:
    - parallel: [{agent: a}, {agent: b, with: $.steps.a.output}]
      need: 3
      collect: {vote: label}
    - parallel: {x: {agent: c}, "Y Z": {agent: d}}
      need: {share: 0}
      on-loss: drop
    - parallel: [{sequence: [{agent: f}]}]
      need: {share: 1.1}
      collect: object
    - choice: [{else: {agent: g}}, {when: {pick: $.input}, do: {agent: h, with: $.steps.g.output}}]
    - loop: {agent: i, with: $.last}
    - map: 7
      tolerate: {share: 2}
      do: {agent: j}
    - map: $.input
      as: row
      with: $.input
      do: {agent: k, with: {a: $.item, b: $.item.row, c: $.round}}
    - agent: l
      with: {a: $.item, b: $.steps.k.output, c: $.steps.h.output, d: {pick: $.steps.h.output, else: 1}, e: $.error.code}
      retry: {on: [nonsense], then: stop}
      timeout: 0s
      fallback: []
    - agent: m
      when: {pick: $.steps.n.output, equals: 1, less: 2}
      on-error: [{when: {pick: $.error.code, in: x}}]
    - {agent: n, when: {all: []}, need: text}
    - parallel: [{wait: 367days}, {wait: 30}, {wait: {}}, {wait: {until: tomorrow}}, {wait: {until: {at: 1}}}, {wait: {untl: $.input}}]
    - {parallel: []}
    - {loop: {agent: o}, at-most: 100001, stall: 1}
    - {agent: p, context: {fork: [session]}}
    - {parallel: [{agent: r}], need: any}
    - {agent: s, with: $.steps.r.output}
    - {sequence: [{agent: t}], id: u, with: $.steps.t.output}
    - ask: {of: viewer, schema: 7, shows: 1}
    - ask: {title: ""}
    - emit: {topic: Not One, data: $.steps.v.output}
    - {emit: {type: "", subject: 7}}
    - wait: {topic: orders, until: $.input.at}
    - wait: {topic: no topic, match: {topic: x}, where: {pick: $.event, equal: 1}, since: then}
    - {wait: {topic: orders}, with: $.event.data}
    - ask: {title: Well?, of: admin, remind: {every: 0s, to: me}}
"#,
        &[
            ("4:47", "in a branch beside this one"),
            ("5:13", "a number of branches, which is a whole number from 1 to 2"),
            ("6:23", "begins with `/`"),
            ("7:33", "a branch's name"),
            ("8:21", "above 0, and at most 1"),
            ("9:16", "one of `cancel`, `finish`"),
            ("10:19", "needs a name for every branch"),
            ("11:21", "above 0, and at most 1"),
            ("13:17", "`else` is the last"),
            ("13:43", "has one test"),
            ("13:81", "in another option of the choice"),
            ("14:7", "`at-most` is missing"),
            ("14:30", "not there in a loop's first round"),
            ("15:12", "is a pick of a list"),
            ("16:25", "above 0, and at most 1"),
            ("20:13", "works on its items"),
            ("21:32", "calls its items `row`"),
            ("21:58", "inside of a loop only"),
            ("23:17", "inside of a `map` only"),
            ("23:28", "is inside of a `map`"),
            ("23:49", "may give nothing"),
            ("23:108", "`fallback` and `on-error`, where"),
            ("24:20", "a code of `on` is one of"),
            ("24:37", "`then` is one of `fail`, `pause`"),
            ("25:16", "from 1ms to"),
            ("26:17", "1 to 100 entries"),
            ("28:13", "has one test"),
            ("28:20", "does not come before"),
            ("29:18", "`do` is missing"),
            ("29:50", "`in` is a list"),
            ("30:30", "`all` is empty"),
            ("30:35", "has no field `need`"),
            ("31:25", "from 0s to 1year"),
            ("31:42", "is a duration such as"),
            ("31:54", "or `{topic: …}`"),
            ("31:74", "RFC 3339 in UTC"),
            ("31:101", "or a pick of one"),
            ("31:119", "or `{topic: …}`"),
            ("31:120", "did you mean `until`?"),
            ("32:8", "`parallel` is empty"),
            ("33:35", "from 1 to 100000"),
            ("33:50", "from 2 to 100000"),
            ("34:18", "has no field `context`"),
            ("36:24", "may give nothing"),
            ("37:45", "does not come before"),
            ("38:12", "`title` is missing"),
            ("38:17", "one of `admin`, `author`, `caller`"),
            ("38:33", "is a JSON Schema"),
            ("38:36", "did you mean `show`?"),
            ("39:12", "`of` is missing"),
            ("39:20", "a line of text, of at most 200 bytes"),
            ("40:13", "`type` is missing"),
            ("40:21", "not a topic"),
            ("40:36", "there is no step `v`"),
            ("41:14", "`topic` of `emit` is missing"),
            ("41:21", "an event's type is 1 to"),
            ("41:34", "or a pick of one, this is a number"),
            ("42:13", "or `{topic: …}`"),
            ("43:21", "not a topic"),
            ("43:39", "has no field `topic`"),
            ("43:57", "has one test"),
            ("43:73", "did you mean `equals`?"),
            ("43:91", "one of `now`, `run`"),
            ("44:37", "`$.event` is known in the `where`"),
            ("45:46", "`topic` of `remind` is missing"),
            ("45:54", "from 1s to"),
            ("45:58", "no field `to`"),
        ],
    );
}

#[test]
fn a_plan_has_one_form_and_what_is_wrong_with_it_is_told() {
    let source = "name: w\nflow: {plan: {agent: p, retry: {attempts: 2}, may: [a, b], depth: 2, at-most: 5}, id: n}";
    let document = Document::parse(source, None).unwrap();
    assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
    assert_eq!((document.agents().count(), document.steps().len()), (3, 1), "who may stand in it has to be there");
    told(
        "name: review\nflow:\n  sequence:\n    - plan: {agent: a}\n    - plan: {agent: b, may: [], depth: 0, at-most: 2000}\n    - plan: {need: x, \
         may: [c]}\n    - plan: [c]\n    - plan: {agent: d, may: [c], approve: viewer, among: 7}\n",
        &[
            ("4:13", "`may` is missing"),
            ("5:29", "names 1 to 100 agents"),
            ("5:40", "from 1 to 32"),
            ("5:52", "from 1 to 1000"),
            ("6:13", "written by an `agent`"),
            ("7:13", "`plan` is an object"),
            ("8:43", "`approve` is true, false or a role, which is one of `admin`, `author`, `caller`"),
            ("8:51", "has no field `among`"),
        ],
    );
}

#[test]
fn a_context_has_one_form_and_what_is_wrong_with_it_is_told() {
    let source = "name: w\nflow: {sequence: [{parallel: {x: {agent: a}, y: {agent: b}}, context: {fork: [messages, session], merge: \
                  {plan/: {prefer: [y]}, \"*\": keep-all, p: first}}}, {parallel: [{agent: c}, {agent: d, id: e}], context: {fork: \
                  [session], merge: {k: {prefer: [e, c]}}}}, {map: $.input, do: {agent: f}, context: {fork: [session]}}]}";
    let document = Document::parse(source, None).unwrap();
    let json = document.to_json();
    assert_eq!(Document::from_json(&json).unwrap(), document);
    assert!(json.contains(r#""context":{"fork":["session","messages"],"merge":{"#), "{json}");
    let Does::Sequence(nodes) = &document.flow.does else { panic!("it is a sequence") };
    let policies = |number: usize| nodes[number].context().unwrap().merge.clone();
    assert_eq!(policies(0).of("plan/x"), &Policy::Prefer(vec![1]));
    assert_eq!((policies(0).of("pq"), policies(0).of("z")), (&Policy::First, &Policy::KeepAll));
    assert_eq!(policies(1).of("k"), &Policy::Prefer(vec![1, 0]));
    assert_eq!(policies(2).of("k"), &Policy::Fail);
    told(
        r#"name: review
flow:
  sequence:
    - parallel: [{agent: a}, {sequence: [{agent: b}]}]
      context: {fork: [session, graph, session, x], merge: {k: {prefer: [a, c]}, "": fail, l: best, m: {ask: {of: caller}}, n: {agent: s, than: 1}, o: {ask: {}, tiemout: 1m}}}
    - parallel: {x: {workflow: w}, y: {plan: {agent: p, may: [a]}}}
      context: {fork: [messages], merge: {k: last}, else: 1}
    - map: $.input
      do: {agent: d}
      context: {fork: [session], merge: {k: {prefer: [d]}, l: {prefer: []}, m: {prefr: [d]}, n: 7}}
    - parallel: [{agent: e}]
      context: {merge: {}}
    - parallel: [{agent: f}]
      context: [session]
    - parallel: [{sequence: [{agent: g}]}]
      context: {fork: [], merge: {k: {prefer: [g]}}}
    - {agent: h, with: $.steps.s.output}
"#,
        &[
            ("5:33", "`graph` is not forked by this host"),
            ("5:40", "`session` stands in `fork` twice"),
            ("5:49", "one of `session`, `messages`"),
            ("5:77", "a branch `c`, and there is none; there are `a`"),
            ("5:82", "has 1 to 512 bytes"),
            ("5:95", "a policy is `fail`, `first`, `last`, `keep-all`, `ask`,"),
            ("5:115", "`of` of a conflict is one of `admin`, `author`"),
            ("5:139", "has no field `than`"),
            ("5:162", "did you mean `timeout`?"),
            ("7:35", "`fork` has no `session`"),
            ("7:53", "has no field `else`"),
            ("10:55", "what is done for items has no names"),
            ("10:72", "`prefer` is empty"),
            ("10:80", "a policy is"),
            ("10:81", "did you mean `prefer`?"),
            ("10:97", "a policy is"),
            ("12:16", "`fork` is missing"),
            ("12:17", "`fork` has no `session`"),
            ("14:16", "`context` is an object"),
            ("16:23", "`fork` is empty"),
            ("16:27", "`fork` has no `session`"),
            ("16:48", "none of them has a name"),
            ("17:24", "settles conflicts of branches"),
        ],
    );
}

#[test]
fn what_is_wrong_with_compensations_is_told_with_its_place() {
    told(
        r#"name: review
flow:
  sequence:
    - agent: a
      with: $.given
      compensate: {agent: b, compensate: {agent: c}}
    - agent: d
      compensate:
        sequence:
          - {agent: e, with: $.output.id}
          - agent: f
            with: {id: {pick: $.output.id, else: null}, why: $.error.code, was: $.given, first: $.steps.a.output}
            retry: {then: pause}
          - {agent: g, with: $.steps.d.output}
          - {agent: h, with: $.steps.i.output}
    - {agent: i, with: {pick: $.steps.e.output, else: 1}}
    - {sequence: [{agent: j}], compensate: {agent: k, with: $.steps.j.output}}
    - {agent: l, with: $.error.code, compensate: 7}
    - {parallel: [{agent: m}, {agent: n, compensate: {agent: o, with: $.steps.m.output}}]}
"#,
        &[
            ("5:13", "known in `compensate` only"),
            ("6:30", "within a `compensate`"),
            ("10:30", "acted and then failed"),
            ("13:27", "the run is `stuck`"),
            ("14:30", "its output is `$.output`"),
            ("15:30", "does not come before"),
            ("16:31", "is in a `compensate`"),
            ("17:61", "may give nothing"),
            ("18:24", "and in `compensate` only"),
            ("18:50", "is an object, this is a number"),
            ("19:71", "in a branch beside this one"),
        ],
    );
}

#[test]
fn a_need_has_one_form_and_what_is_wrong_with_it_is_told() {
    let source = "name: w\nflow: {need: sum up, among: [brief, 'sum@sha256:DIGEST'], at-least: 0.5, id: n}";
    let document = Document::parse(&source.replace("DIGEST", &"0".repeat(64)), None).unwrap();
    assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
    assert_eq!((document.agents().count(), document.steps().len()), (2, 1), "who is named has to be there");
    let all = Document::parse("name: w\nflow: {need: sum up, at-least: 0.2}", None).unwrap();
    assert_eq!(all.to_json(), r#"{"name":"w","flow":{"need":"sum up"}}"#);
    told(
        "name: review\nflow:\n  sequence:\n    - need: ' '\n    - {need: x, among: []}\n    - {need: x, at-least: 2}\n    - {need: x, agents: \
         [a]}\n    - {need: [x]}\n    - {agent: a, need: x}\n",
        &[
            ("4:13", "in 1 to 2000 bytes"),
            ("5:24", "names 1 to 100 agents"),
            ("6:27", "from 0 to 1"),
            ("7:17", "has no field `agents`"),
            ("8:14", "in 1 to 2000 bytes"),
            ("9:18", "has no field `need`"),
        ],
    );
}

#[test]
fn what_undoes_something_is_a_part_of_the_document() {
    let source = "{name: c, flow: {agent: a, retry: {attempts: 2, then: pause}, compensate: {sequence: [{agent: b, with: {of: \
                  {pick: $.output, else: 1}}}, {agent: c, with: $.given.x}], retry: {attempts: 9}, timeout: 1m}}}";
    let document = Document::parse(source, None).unwrap();
    let json = document.to_json();
    assert_eq!(Document::from_json(&json).unwrap(), document);
    assert_eq!(Document::from_json(&json).unwrap().to_json(), json);
    assert_eq!((document.agents().count(), document.flow.retry.then), (3, Then::Pause));
    let Some(Below::Compensation(node)) = document.flow.below(13_000) else { panic!("{json}") };
    assert_eq!(node.retry.attempts, 9);
    let path: StepPath = "0/13000/1".parse().unwrap();
    assert!(Node::is_undoing(&path, &StepPath::root()));
    assert!(!Node::is_undoing(&path, &StepPath::root().child(13_000)), "it is its own work");
}

/// Every document in the docs is one.
#[test]
fn the_documents_in_the_docs_are_taken() {
    let page = include_str!("../../../../docs/workflows.md");
    let documents: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(documents.len() >= 8);
    let events = include_str!("../../../../docs/events.md");
    let of_events = events.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    for document in documents.into_iter().chain(of_events) {
        Document::parse(document, None).unwrap_or_else(|faults| panic!("{faults}\n{document}"));
    }
}

#[test]
fn schedules_are_read_whole_and_written_in_one_form() {
    let source = "
name: report
on:
  - {schedule: 0  6 * * 1-5, zone: europe/berlin, overlap: queue, catch-up: 90m, input: {kind: daily, amount: $5}}
  - {schedule: \"@hourly\"}
flow: {agent: report, with: {at: {pick: $.run.scheduled-at, else: null}}}";
    let document = Document::parse(source, None).unwrap();
    let json = document.to_json();
    assert!(
        json.starts_with(
            r#"{"name":"report","on":[{"schedule":"0 6 * * 1-5","zone":"Europe/Berlin","overlap":"queue","catch-up":"1h 30m","input":{"kind":"daily","amount":"$5"}},{"schedule":"@hourly","zone":"UTC","overlap":"skip","catch-up":"1h"}],"flow":"#
        ),
        "{json}"
    );
    assert_eq!(Document::from_json(&json).unwrap(), document);
    let [one, other] = document.schedules.as_slice() else { panic!("two schedules") };
    assert_ne!(one.digest(), other.digest());
    assert_ne!(one.digest(), Schedule { input: None, ..one.clone() }.digest(), "its input is part of it");
}

#[test]
fn how_a_subscription_starts_runs_is_read_and_written_in_one_form() {
    let source = r#"name: flows
on:
  - {topic: a, rate: {starts: 10, per: 1m}}
  - {memory: board/, debounce: 5s, scope: agent, owner: x}
  - {topic: b, batch: {events: 20, within: 10s}}
  - {topic: c, join: {of: {paid: {exact: {type: p}}, packed: {pick: $.data.k, equals: 1}}, by: $.data.order, need: all, within: 1h}}
flow: {agent: a}
"#;
    let document = Document::parse(source, None).unwrap_or_else(|faults| panic!("{faults}"));
    let json = document.to_json();
    assert_eq!(Document::from_json(&json).unwrap(), document, "{json}");
    assert!(
        json.contains(r#""rate":{"starts":10,"per":"1m"}"#) && json.contains(r#""by":"$.event/data/order""#),
        "{json}"
    );
    let faults = faults(
        r#"name: flows
on:
  - {topic: a, rate: {starts: 0, per: 2h, x: 1}}
  - {topic: b, debounce: 1s, batch: {events: 1}}
  - {topic: c, batch: {events: 1, within: 10ms}}
  - {topic: d, join: {of: {a: {exact: {type: a}}}, by: $.input.x, within: 1h}}
  - {topic: e, join: {of: {a: {exact: {type: a}}, b: {exact: {type: b}}}, need: 3}}
flow: {agent: a}
"#,
    );
    for (line, words) in [
        (3, "`starts` of `rate` is a whole number from 1 to 1000"),
        (3, "`per` of `rate` is a duration"),
        (3, "`rate` has no field `x`"),
        (4, "one of `debounce`, `batch` and `join`"),
        (5, "`events` of `batch` is a whole number from 2 to 100"),
        (5, "`within` of `batch` is a duration"),
        (6, "`join` is of 2 to 16 kinds"),
        (6, "`by` of `join` is of the event"),
        (7, "`by` of `join` is missing"),
        (7, "`within` of `join` is missing"),
        (7, "`need` of `join`"),
    ] {
        let is_there = |fault: &&String| fault.starts_with(&format!("{line}:")) && fault.contains(words);
        assert!(faults.iter().find(is_there).is_some(), "line {line}: {words}: {faults:#?}");
    }
}

#[test]
fn what_is_wrong_with_schedules_is_told_in_its_place() {
    told(
        r#"name: review
on:
  - {schedule: 0 24 * * *, zone: Europe/Berln, overlap: maybe, catch-up: 1s}
  - {zone: UTC}
  - {topic: Orders, where: {exact: {Type: a}, pick: $.input}, at-once: 0, on-poison: drop, by: me}
  - {memory: board/, scope: agent}
  - {schedule: 0 0 30 2 *, every: 5m}
  - {schedule: 0 6 * * *}
  - {schedule: "0  6 * * *", zone: utc}
  - 6
flow: {agent: report, with: {at: $.run.scheduled-at}}
"#,
        &[
            ("3:16", "`24` is no hour"),
            ("3:34", "did you mean `Europe/Berlin`?"),
            ("3:57", "`overlap` is one of `skip`, `queue`, `parallel`"),
            ("3:74", "`catch-up` is a duration"),
            ("4:5", "`schedule` is missing"),
            ("5:13", "`topic`: "),
            ("5:28", "a condition with `pick` has one test"),
            ("5:29", "a condition has no field `exact`"),
            ("5:72", "`at-once` is a whole number from 1 to 100"),
            ("5:86", "`on-poison` is one of `park-key`, `skip`"),
            ("5:92", "a subscription has no field `by`"),
            ("6:5", "`owner` is missing: which agent's memory it is"),
            ("7:16", "never comes"),
            ("7:28", "has no field `every`"),
            ("9:5", "a second time, first at line 8"),
            ("10:5", "an entry of `on` is an object"),
            ("11:34", "`$.run.scheduled-at` is not there"),
        ],
    );
    let many: String = (0..17).map(|minute| format!("  - {{schedule: {minute} 6 * * *}}\n")).collect();
    told(&format!("name: review\non:\n{many}flow: {{agent: a}}\n"), &[("3:3", "at most 16 schedules")]);
}

#[test]
fn a_loop_that_could_never_stall_is_told_and_a_pinned_one_is_taken() {
    let source = "name: review\nflow:\n  loop: {agent: a}\n  at-most: 3\n  stall: 4\n";
    told(source, &[("5:10", "`stall` is 4, and the loop makes at most 3 rounds")]);
    let pinned = r#"{"name":"review","flow":{"loop":{"agent":"a"},"at-most":3,"stall":4}}"#;
    assert_eq!(Document::from_json(pinned).unwrap().to_json(), pinned);
    assert!(Document::parse(&source.replace("stall: 4", "stall: 3"), None).is_ok());
}

#[test]
fn schemas_of_conditions_are_looked_at_with_the_others_and_not_asked_of_events() {
    let flow = "name: n\nflow: {sequence: [{agent: a, when: {all: [{pick: $.input, json-schema: {type: string}}]}, validate: {json-schema: true}}, \
                {loop: {agent: b}, until: {pick: $.last, json-schema: {minimum: 1}}, at-most: 2}, \
                {choice: [{when: {pick: $.input, json-schema: false}, do: {agent: c}}]}]}";
    let document = Document::parse(flow, None).unwrap();
    assert_eq!(document.schemas().len(), 4);
    assert_eq!(Document::from_json(&document.to_json()).unwrap().to_json(), document.to_json());
    for (wrong, why) in [
        ("{agent: a, when: {pick: $.input, json-schema: text}}", "`json-schema` is a JSON Schema: an object"),
        ("{wait: {topic: t, where: {pick: $.event.data, json-schema: true}}}", "is not asked of events"),
        ("{agent: a, when: {pick: $.input, json-schema: true, exists: true}}", "has one test"),
    ] {
        let faults = Document::parse(&format!("name: n\nflow: {wrong}"), None).unwrap_err().to_string();
        assert!(faults.contains(why), "{wrong}: {faults}");
    }
}

#[test]
fn a_schedule_that_ends_says_when() {
    let document = |until: &str| format!("name: n\non: [{{schedule: '@hourly', until: {until}}}]\nflow: {{agent: a}}");
    let read = Document::parse(&document("'2027-12-31T00:00:00Z'"), None).unwrap();
    assert!(read.to_json().contains(r#""until":"2027-12-31T00:00:00"#), "{}", read.to_json());
    assert_eq!(Document::from_json(&read.to_json()).unwrap(), Document::parse(&read.to_json(), None).unwrap());
    let faults = Document::parse(&document("tomorrow"), None).unwrap_err().to_string();
    assert!(faults.contains("`until`"), "{faults}");
}
