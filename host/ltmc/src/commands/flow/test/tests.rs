//! Cases that come out as expected, and what is said of those that do not.

use ltmc_model::workflow::Document;

use super::*;

const FLOW: &str = "
name: review
flow:
  sequence:
    - {agent: read, timeout: 2h, retry: {attempts: 3, backoff: 10m}}
    - parallel:
        style: {agent: style}
        safety: {agent: safety, fallback: [{agent: safety-lite}]}
      id: scans
    - map: $.steps.read.output.files
      id: all
      do: {agent: look, id: each, with: {file: $.item}}
    - choice:
        - {when: {pick: $.input.strict, equals: true}, do: {agent: judge-all, validate: {agent: check}}}
        - else: {agent: wave-through}
      id: verdict
";

const PARTS: &str = "
agents:
  read: {output: {files: [a, b]}}
  style: {output: neat, takes: 3s}
  safety: {output: safe}
  safety-lite: {output: rather safe}
  look: [{when: {pick: $.input.file, equals: a}, output: 1}, {output: 2}]
  judge-all: {output: strict}
  check: {violations: []}
  wave-through: {output: fine}
";

/// What is told of the cases, one after the other.
fn told(cases: &str) -> Vec<Vec<String>> {
    let document = Document::parse(FLOW, None).unwrap_or_else(|faults| panic!("{faults}"));
    let read = Cases::parse(&format!("{PARTS}cases:\n{cases}"), &document);
    let Cases(cases) = read.unwrap_or_else(|faults| panic!("{faults}"));
    let one = |case: &Case| {
        let played = stage::play(&document, case).unwrap();
        verdict::differences(&document, case, &played)
    };
    cases.iter().map(one).collect()
}

#[test]
fn what_was_expected_is_told_nothing_of() {
    let told = told(
        "
  - name: everything goes well
    input: {strict: true}
    expect:
      result: strict
      ran: [read, scans, style, safety, all, each, verdict, judge-all]
      skipped: [safety-lite, wave-through]
      attempts: {read: 1, each: 2}
      inputs: {each: [{file: a}, {file: b}]}
      outputs: {scans: {style: neat, safety: safe}, all: [1, 2], each: [1.0, 2]}
      decided: {verdict: {option: 0}, all: {items: 2}, scans: {status: completed, winners: [1, 0]}, safety: {rescued: false}}
  - name: a scanner that fails is replaced
    input: {}
    agents: {safety: {fail: {agent-code: no-rules, message: no rules}}}
    expect:
      result: fine
      ran: [safety, safety-lite, wave-through]
      outputs: {scans: {style: neat, safety: rather safe}}
      decided: {verdict: {option: 1}, safety: {rescued: true}}
  - name: back-off of hours passes at once
    input: {}
    agents: {read: [{fail: {retryable: true}}, {fail: {retryable: true}}, {output: {files: []}}]}
    expect: {result: fine, attempts: {read: 3, each: 0}, skipped: [each], decided: {all: {items: 0}}}
  - name: what takes too long is ended
    input: {}
    agents: {read: {output: {files: []}, takes: 3h}}
    expect: {failed: {code: timed-out, step: read, message: longer}, skipped: [scans, style, all, verdict]}
  - name: what is judged wrong fails
    input: {strict: true}
    agents: {check: {violations: [{at: /x, message: missing}]}}
    expect: {failed: {code: validation-failed, step: judge-all, message: missing}}
",
    );
    assert_eq!(told, vec![Vec::<String>::new(); 5]);
}

#[test]
fn every_difference_is_told() {
    let told = told(
        "
  - name: otherwise
    input: {}
    expect:
      result: {a: 1}
      ran: [judge-all]
      skipped: [read]
      attempts: {each: 7}
      inputs: {each: [{file: a}, {file: c}], judge-all: 1}
      outputs: {scans: {style: ugly, more: 1}}
      decided: {verdict: {option: 0}, safety: {rescued: true}}
  - name: it was to fail
    expect: {failed: bad-step}
    agents: {read: {output: {files: []}}}
    input: {}
  - name: it was not to fail
    input: {}
    agents: {read: {output: {files: 7}}}
  - name: it fails in another way
    input: {}
    agents: {read: {output: {files: 7}}}
    expect: {failed: {code: timed-out, step: read, message: nothing of the kind}}
  - name: nobody plays this part
    input: {}
    agents: {look: {when: {pick: $.input.file, equals: z}, output: 1}}
",
    );
    let has = |number: usize, words: &[&str]| {
        let told: &Vec<String> = &told[number];
        for words in words {
            assert!(told.iter().any(|line| line.contains(words)), "no `{words}` in {told:#?}");
        }
        assert_eq!(told.len(), words.len(), "{told:#?}");
    };
    has(
        0,
        &[
            "result: \"fine\", expected {\"a\":1}",
            "ran: `judge-all` was not done",
            "skipped: `read` was done, in 1 calls",
            "attempts: `each` made 2, expected 7",
            "input of `each` at /1/file: \"b\", expected \"c\"",
            "input of `judge-all`: there is none",
            "output of `scans` at /style: \"neat\", expected \"ugly\"",
            "output of `scans` at /more: nothing there, expected 1",
            "output of `scans` at /safety: \"safe\", expected nothing",
            "decided: option of `verdict` is 1, expected 0",
            "decided: rescued of `safety` is null, expected true",
        ],
    );
    has(1, &["was to fail with bad-step, and gave \"fine\""]);
    has(2, &["the run failed in step 0/2: bad-step"]);
    has(
        3,
        &[
            "was to fail with timed-out, and failed with bad-step",
            "was to fail in `read`, at 0/0",
            "is not in the failure's message",
        ],
    );
    has(4, &["none of its answers is for {\"file\":\"a\"}", "none of its answers is for {\"file\":\"b\"}"]);
}

const WHOLE: &str = "
name: whole
flow:
  sequence:
    - {need: sum it up, id: sum}
    - {workflow: audit, id: audited, retry: {attempts: 2, on: [agent-error]}}
    - parallel: {x: {agent: pro, id: x}, y: {agent: con, id: y, when: {pick: $.input.y, equals: true, else: false}}}
      collect: {agent: editor}
      id: both
    - debate: {among: [pro, con], rounds: 1, close: {agent: judge}}
      id: argued
    - plan: {agent: planner, may: [search], approve: true}
      id: planned
    - ask: {title: \"Publish?\", of: author, schema: {type: boolean}}
      id: ok
      timeout: 2days
      on-error: [{do: {agent: remind}}]
";

const PLAYED: &str = "
needs: {sum: brief}
workflows: {audit: {output: sound}}
questions: {planned: {output: true, takes: 3h}, ok: {output: true, takes: 1day}}
agents:
  brief: {output: short}
  pro: {output: yes}
  con: {output: no}
  editor: {output: edited}
  judge: {output: settled}
  planner: {output: {name: p, flow: {agent: search}}}
  search: {output: found}
  remind: {output: reminded}
";

fn told_of_whole(cases: &str) -> Vec<Vec<String>> {
    let document = Document::parse(WHOLE, None).unwrap_or_else(|faults| panic!("{faults}"));
    let Cases(cases) =
        Cases::parse(&format!("{PLAYED}cases:\n{cases}"), &document).unwrap_or_else(|faults| panic!("{faults}"));
    let one = |case: &Case| verdict::differences(&document, case, &stage::play(&document, case).unwrap());
    cases.iter().map(one).collect()
}

#[test]
fn what_is_needed_started_planned_asked_and_argued_is_played() {
    let told = told_of_whole(
        "
  - name: everything goes well
    input: {y: true}
    expect:
      result: true
      ran: [sum, audited, both, editor, argued, judge, planned, planner, ok]
      skipped: [remind]
      inputs: {editor: [{branch: x, output: yes}, {branch: y, output: no}]}
      outputs: {sum: short, audited: sound, argued: settled, planned: found, both: edited}
      decided: {argued: {rounds: 2}}
  - name: somebody else is found, the workflow is started twice, and nobody answers in time
    input: {}
    needs: {sum: search}
    workflows: {audit: [{fail: {message: not yet}}, {output: {at: last}}]}
    questions: {ok: {output: true, takes: 3days}}
    expect:
      result: reminded
      inputs: {editor: [{branch: x, output: yes}, {branch: y, skipped: true}]}
      outputs: {sum: found, audited: {at: last}}
      decided: {ok: {rescued: true}, audited: {failures: 1}}
  - name: people do not approve of the plan
    questions: {planned: {output: false}}
    expect: {failed: {code: not-approved, step: planned}, skipped: [ok]}
  - name: what is planned may not be
    agents: {planner: {output: {name: p, flow: {agent: brief}}}}
    expect: {failed: {code: bad-plan, message: not among those}}
  - name: an answer that is none
    questions: {ok: {output: perhaps}}
    expect: {result: true}
",
    );
    assert_eq!(told[..4], vec![Vec::<String>::new(); 4]);
    assert!(told[4].iter().any(|line| line.contains("result")), "{told:?}");
}

#[test]
fn what_nobody_plays_is_told() {
    let flow = "name: q\nflow: {sequence: [{workflow: audit, id: a}, {ask: {title: Well?, of: admin}, id: q}]}";
    let document = Document::parse(flow, None).unwrap();
    let played = |cases: &str| {
        let Cases(cases) =
            Cases::parse(&format!("cases: [{{name: c, {cases}}}]"), &document).unwrap_or_else(|f| panic!("{f}"));
        verdict::differences(&document, &cases[0], &stage::play(&document, &cases[0]).unwrap())
    };
    let started = played("input: 1");
    assert!(started[0].contains("workflow `audit` was started, and has no answer"), "{started:?}");
    let asked = played("workflows: {audit: {output: 1}}");
    assert!(asked[0].contains("a question was asked at 0/1, and has no answer: Well?"), "{asked:?}");
}

const SHIP: &str = "
name: ship
flow:
  sequence:
    - agent: place-order
    - parallel:
        paid:
          wait:
            topic: orders
            match: {type: order.paid, subject: $.steps.place-order.output.id}
            where: {pick: $.event.data.sum, at-least: 10}
          id: paid
          timeout: 2days
        noted: {wait: {topic: notes, since: run}, id: noted, timeout: 1h, on-error: [{do: {agent: shrug}}]}
    - {map: $.input.parcels, do: {emit: {topic: parcels, type: parcel.sent, subject: $.item.id}, id: sent}, id: all}
    - emit: {topic: shipped, type: order.shipped, subject: $.steps.place-order.output.id, data: {sum: $.steps.paid.output.data.sum}}
      id: told
";

const SHIPPED: &str = "
agents: {place-order: {output: {id: A-17}, takes: 10m}, shrug: {output: no note}}
events:
  - {topic: notes, type: note, text: by the door}
  - {topic: orders, type: order.paid, subject: A-16, data: {sum: 99}, after: 11m}
  - {topic: orders, type: order.paid, subject: A-17, data: {sum: 9}, after: 12m}
  - {topic: orders, type: order.seen, subject: A-17, data: {sum: 98}, after: 13m}
  - {topic: orders, type: order.paid, subject: A-17, data: {sum: 12}, source: /keys/shop, after: 30h}
  - {topic: orders, type: order.paid, subject: A-17, data: {sum: 13}, after: 40h}
";

fn told_of_ship(cases: &str) -> Vec<Vec<String>> {
    let document = Document::parse(SHIP, None).unwrap_or_else(|faults| panic!("{faults}"));
    let Cases(cases) =
        Cases::parse(&format!("{SHIPPED}cases:\n{cases}"), &document).unwrap_or_else(|faults| panic!("{faults}"));
    let one = |case: &Case| verdict::differences(&document, case, &stage::play(&document, case).unwrap());
    cases.iter().map(one).collect()
}

#[test]
fn events_come_when_a_case_says_and_what_is_published_is_seen() {
    let told = told_of_ship(
        "
  - name: the first that fits is taken
    input: {parcels: [{id: p1}, {id: p2}]}
    expect:
      ran: [paid, noted, told, sent]
      skipped: [shrug]
      outputs:
        paid: {type: order.paid, source: /keys/shop, data: {sum: 12}}
        noted: {data: by the door, datacontenttype: text/plain; charset=utf-8}
      emitted:
        parcels: [{type: parcel.sent, subject: p1, data: {id: p1}}, {subject: p2}]
        shipped: [{type: order.shipped, subject: A-17, data: {sum: 12}}]
  - name: what came before it is waited for is too early, unless the run looks back
    input: {parcels: []}
    events:
      - {topic: notes, type: note}
      - {topic: orders, type: order.paid, subject: A-17, data: {sum: 12}, after: 9m}
    expect: {failed: {code: timed-out, step: paid}, outputs: {noted: {type: note}}, emitted: {shipped: [], parcels: []}}
  - name: nothing comes at all
    input: {parcels: []}
    events: []
    expect: {failed: {code: timed-out, step: paid}, ran: [shrug]}
  - name: it comes a moment too late
    input: {parcels: []}
    events: [{topic: orders, type: order.paid, subject: A-17, data: {sum: 12}, after: 48h 10m 1s}]
    expect: {failed: timed-out}
  - name: otherwise
    input: {parcels: [{id: p1}]}
    expect:
      outputs: {paid: {data: {sum: 13}}}
      emitted: {shipped: [], parcels: [{type: parcel.lost, data: {id: p2}}, {}]}
",
    );
    assert_eq!(told[..4], vec![Vec::<String>::new(); 4]);
    for words in [
        "output of `paid` at /data/sum: 12, expected 13",
        "emitted to `shipped` at /0: {",
        "emitted to `parcels` at /0/type: \"parcel.sent\", expected \"parcel.lost\"",
        "emitted to `parcels` at /0/data/id: \"p1\", expected \"p2\"",
        "emitted to `parcels` at /1: nothing there, expected {}",
    ] {
        assert!(told[4].iter().any(|line| line.contains(words)), "no `{words}` in {told:#?}");
    }
    assert_eq!(told[4].len(), 5, "{told:#?}");
}

/// It is found out at once, though what plays agents and people goes on meanwhile for hours.
#[test]
fn an_event_that_never_comes_is_told() {
    let flow = "
name: q
flow:
  parallel:
    - {wait: {topic: orders, match: {type: order.paid, subject: A-17}}}
    - sequence: [{ask: {title: Well?, of: admin}, id: ok}, {wait: 3h}, {agent: slow}]
";
    let document = Document::parse(flow, None).unwrap();
    let cases = "
agents: {slow: {output: 1, takes: 5h}}
questions: {ok: {output: true, takes: 2h}}
cases:
  - {name: none, events: [{topic: orders, type: order.paid, subject: A-18, after: 12h}]}
  - {name: late, events: [{topic: orders, type: order.paid, subject: A-17, after: 12h}], expect: {ran: [slow]}}
";
    let Cases(cases) = Cases::parse(cases, &document).unwrap_or_else(|faults| panic!("{faults}"));
    let none = stage::play(&document, &cases[0]).unwrap();
    assert!(none.calls.len() == 1 && none.took >= std::time::Duration::from_secs(12 * 3_600), "{:?}", none.took);
    let told = verdict::differences(&document, &cases[0], &none);
    assert_eq!(
        told,
        [
            "an event of `orders`, of the type `order.paid`, of the subject `A-17` is waited for at 0/0, and none came that fits"
        ]
    );
    let late = stage::play(&document, &cases[1]).unwrap();
    assert_eq!(verdict::differences(&document, &cases[1], &late), Vec::<String>::new());
}

/// What branches hold back until they come together is published then, or not at all.
#[test]
fn what_branches_hold_is_published_where_they_come_together() {
    let flow = "
name: held
flow:
  parallel:
    slow: {sequence: [{agent: slow}, {emit: {topic: told, type: slow}}]}
    fast: {emit: {topic: told, type: fast}}
  context: {fork: [messages]}
";
    let document = Document::parse(flow, None).unwrap();
    let cases = "
cases:
  - {name: both, agents: {slow: {output: 1, takes: 1h}}, expect: {emitted: {told: [{type: slow}, {type: fast}]}}}
  - {name: none, agents: {slow: {fail: {}}}, expect: {failed: agent-error, emitted: {told: []}}}
";
    let Cases(cases) = Cases::parse(cases, &document).unwrap_or_else(|faults| panic!("{faults}"));
    for case in &cases {
        let played = stage::play(&document, case).unwrap();
        assert_eq!(verdict::differences(&document, case, &played), Vec::<String>::new(), "{}", case.name);
    }
}

/// The words that a case may use of what was decided are those of a run's `nodes`.
#[test]
fn what_can_be_expected_is_what_a_run_shows() {
    let document = Document::parse(FLOW, None).unwrap();
    let source = format!("{PARTS}cases: [{{name: a, input: {{}}}}]");
    let Cases(cases) = Cases::parse(&source, &document).unwrap();
    let played = stage::play(&document, &cases[0]).unwrap();
    let nodes = serde_json::to_value(&played.view.nodes).unwrap();
    let mut shown: Vec<String> =
        nodes.as_array().unwrap().iter().flat_map(|n| n.as_object().unwrap().keys().cloned()).collect();
    shown.extend(["failures", "rescued", "rounds"].map(str::to_owned));
    for word in Cases::DECIDED {
        assert!(shown.iter().any(|known| known == word), "{word} is not in {shown:?}");
    }
}

#[test]
fn tests_stand_beside_the_document() {
    assert_eq!(beside(Path::new("a/review.yaml")), Path::new("a/review.test.yaml"));
    assert_eq!(beside(Path::new("review.json")), Path::new("review.test.json"));
    assert_eq!(beside(Path::new("review")), Path::new("review.test.yaml"));
}

/// The workflow and the cases in the docs, and those beside the samples.
#[test]
fn what_the_docs_try_comes_out_as_expected() {
    let page = include_str!("../../../../../../docs/workflows.md");
    let block = |fence: &str, words: &str| {
        let mut blocks = page.split(fence).skip(1).filter_map(|rest| rest.split("```").next());
        blocks.find(|block| block.starts_with(words)).unwrap_or_else(|| panic!("no block that begins with {words}"))
    };
    for (flow, cases) in [
        (block("```yaml\n", "name: support\n"), block("```yml\n", "workflow: support\n")),
        (block("```yaml\n", "name: ship"), block("```yml\n", "workflow: ship")),
        (
            include_str!("../../../../../../sample-agents/review.yaml"),
            include_str!("../../../../../../sample-agents/review.test.yaml"),
        ),
    ] {
        let document = Document::parse(flow, None).unwrap_or_else(|faults| panic!("{faults}"));
        let Cases(cases) = Cases::parse(cases, &document).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(cases.len() >= 3);
        for case in &cases {
            let played = stage::play(&document, case).unwrap();
            assert_eq!(verdict::differences(&document, case, &played), Vec::<String>::new(), "{}", case.name);
        }
    }
}

/// Branches whose agents conflict, and who settles that.
#[test]
fn conflicts_of_branches_are_settled_as_a_case_says() {
    let flow = "
name: settle
flow:
  parallel:
    legal: {agent: legal}
    cost: {agent: cost}
  id: both
  context:
    fork: [session]
    merge:
      plan/: {agent: weigh}
      note: {ask: {of: admin}, id: which, timeout: 1h}
";
    let document = Document::parse(flow, None).unwrap_or_else(|faults| panic!("{faults}"));
    let cases = "
agents:
  legal: {output: 1, puts: {plan/x: 1, note: a, gone: null}}
  cost: {output: 2, puts: {plan/x: 2, note: b}, takes: 1s}
cases:
  - name: an agent weighs them, and people say which
    agents: {weigh: {output: 12}}
    questions: {which: {output: {take: cost}, takes: 10m}}
    expect:
      ran: [weigh, which]
      inputs:
        weigh:
          - key: plan/x
            base: null
            current: null
            sides: [{branch: legal, step: 0/0, op: put, value: 1}, {branch: cost, step: 0/1, op: put, value: 2}]
      memory: {plan/x: 12, note: b, gone: null}
  - name: nobody answers
    agents: {weigh: {output: 12}}
    questions: {which: {output: {take: cost}, takes: 2h}}
    expect: {failed: {code: merge-conflict, step: both, message: timed-out}, memory: {plan/x: null}}
  - name: whoever weighs them fails
    agents: {weigh: {fail: {message: no idea}}}
    questions: {which: {output: {value: c}}}
    expect: {failed: {code: merge-conflict, message: no idea}}
";
    let Cases(cases) = Cases::parse(cases, &document).unwrap_or_else(|faults| panic!("{faults}"));
    for case in &cases {
        let played = stage::play(&document, case).unwrap();
        assert_eq!(verdict::differences(&document, case, &played), Vec::<String>::new(), "{}", case.name);
    }
}

const DESK: &str = "
name: desk
flow: {hand-off: {start: front, among: [front, money, tech], at-most: 3}, id: desk}
";

/// What is told of cases of a conversation that is handed on.
fn told_of_desk(cases: &str) -> Vec<Vec<String>> {
    let document = Document::parse(DESK, None).unwrap_or_else(|faults| panic!("{faults}"));
    let Cases(cases) = Cases::parse(cases, &document).unwrap_or_else(|faults| panic!("{faults}"));
    let one = |case: &Case| verdict::differences(&document, case, &stage::play(&document, case).unwrap());
    cases.iter().map(one).collect()
}

#[test]
fn conversations_are_handed_on_as_a_case_says() {
    let told = told_of_desk(
        "
agents:
  front: {hand-off: {to: money, reason: it is about money}}
  tech: {output: mended}
cases:
  - name: money answers
    agents: {money: {output: paid}}
    expect: {result: paid, outputs: {desk: paid}}
  - name: it goes on to tech
    agents: {money: {hand-off: {to: tech, passed: {order: 7}}}}
    expect: {result: mended}
  - name: nobody hands it to themselves
    agents: {front: {hand-off: {to: front}}}
    expect: {failed: {code: agent-error, message: nobody hands it to themselves}}
  - name: it goes round
    agents: {money: {hand-off: {to: front}}}
    expect: {failed: {code: agent-error, message: at most 3 hand-offs}}
  - name: what is expected otherwise is told
    agents: {money: {output: paid}}
    expect: {result: mended}
",
    );
    assert_eq!(told[..4], [(); 4].map(|()| Vec::<String>::new()));
    assert!(told[4].iter().any(|line| line.contains("paid")), "{told:?}");
}

#[test]
fn who_holds_no_conversation_hands_none_on() {
    let document = Document::parse(FLOW, None).unwrap();
    let cases =
        "agents:\n  check: {hand-off: {to: read}}\n  style: {hand-off: {reason: so}}\ncases: [{name: one, expect: {}}]";
    let faults = Cases::parse(cases, &document).unwrap_err().to_string();
    assert!(faults.contains("holds no conversation") && faults.contains("`to` is missing"), "{faults}");
}
