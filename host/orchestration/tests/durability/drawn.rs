//! Documents made at random: everything nested in everything.
//!
//! Invariant: what comes of one depends on no race: where branches fail the others go on to their end, and agents keep to what is their
//! own. So nobody draws which of several was first, a `need` that several agents could meet, and what waits for people to put it right
//! (`then: pause`).

/// What may stand in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// What comes to an end by itself, of agents alone.
    Agents,
    /// Every pattern and modifier.
    Everything,
}

/// Documents that flows drawn of everything start.
pub(crate) const STARTED: &str = "name: other\nflow: {sequence: [{agent: pass}, {wait: 1s}]}";

/// A flow that nests so deep at most.
pub(crate) fn drawn(of: Of, seed: &mut u64, depth: u32) -> String {
    let mut draw = Draw { seed: *seed, names: 0, of, is_apart: false };
    let flow = draw.node(depth);
    *seed = draw.seed;
    flow
}

struct Draw {
    seed: u64,
    /// So many are taken.
    names: u32,
    of: Of,
    /// In a branch with a context of its own.
    is_apart: bool,
}

impl Draw {
    fn node(&mut self, depth: u32) -> String {
        let node = self.does(depth);
        // A third of all nodes has something that undoes its work.
        if !(self.seed >> 50).is_multiple_of(3) {
            return node;
        }
        self.names += 1;
        let body = node.strip_suffix('}').expect("a node is an object");
        format!("{body}, compensate: {{agent: c, id: n{}}}}}", self.names)
    }

    fn does(&mut self, depth: u32) -> String {
        let kinds = match self.of {
            Of::Agents => 9,
            Of::Everything => 19,
        };
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (kind, n) = ((self.seed >> 33) % kinds, (self.seed >> 40) % 6);
        self.names += 1;
        let id = self.names;
        if depth == 0 || kind == 0 {
            let agent = ["a", "b", "c", "bad", "flaky", "d"][n as usize];
            let retry =
                if n.is_multiple_of(2) { ", retry: {attempts: 3, on: [agent-error], backoff: 5ms}" } else { "" };
            return format!("{{agent: {agent}, id: n{id}{retry}}}");
        }
        if kind > 8 {
            return self.does_more(kind, n, id, depth);
        }
        let mut node = || self.node(depth - 1);
        match kind {
            1 | 2 => format!("{{sequence: [{}, {}]}}", node(), node()),
            3 => {
                let collect = [
                    "",
                    ", collect: {agent: d, id: kID}",
                    ", collect: merge",
                    ", collect: {vote: /count, rule: plurality, tie: {agent: a, id: kID}}",
                    ", collect: {agent: flaky, id: kID, retry: {attempts: 3, on: [agent-error], backoff: 5ms}, compensate: {agent: c, id: uID}}",
                    ", collect: list",
                ][n as usize]
                    .replace("ID", &id.to_string());
                format!("{{parallel: [{}, {}], id: n{id}, on-failure: continue{collect}}}", node(), node())
            }
            4 => format!(
                "{{parallel: [{{agent: bad, id: n{id}}}, {}, {}], need: 2, on-failure: continue}}",
                node(),
                node()
            ),
            5 => {
                format!("{{choice: [{{when: {{pick: $.input.n, less: {n}}}, do: {}}}, {{else: {}}}]}}", node(), node())
            }
            6 if n.is_multiple_of(2) => {
                format!("{{map: $.input.list, do: {}, at-once: {}, tolerate: 3}}", node(), n / 2 + 1)
            }
            6 => format!("{{map: $.input.list, do: {}, at-once: 1, tolerate: 1}}", node()),
            7 if n == 4 => format!(
                "{{debate: {{among: [{{agent: say, id: n{id}}}, {{agent: flaky, id: q{id}, compensate: {{agent: c, id: u{id}}}}}], \
                 rounds: 2, close: {{agent: d, id: k{id}}}}}, id: e{id}}}"
            ),
            7 if n == 5 => {
                format!(
                    "{{hand-off: {{start: hand, among: [{{agent: hand, id: h{id}}}, {{agent: keep, id: k{id}}}], at-most: 2}}, id: n{id}, fallback: [{}]}}",
                    node()
                )
            }
            7 => format!("{{loop: {}, at-most: {}}}", node(), n % 2 + 1),
            8 if n == 5 => format!("{{wait: {}s, id: n{id}}}", [0, 1, 5_000][depth as usize % 3]),
            _ => {
                let (own, other) = (node(), node());
                let handled = match n {
                    0..3 => "timeout: 9days".to_owned(),
                    _ => format!("on-error: [{{do: {{agent: pass, id: e{id}}}}}]"),
                };
                format!("{{sequence: [{own}], fallback: [{other}], {handled}}}")
            }
        }
    }

    /// What asks, tells, waits, starts runs, has a context of its own, is judged, skipped, or takes too long.
    fn does_more(&mut self, kind: u64, n: u64, id: u32, depth: u32) -> String {
        match kind {
            9 => format!("{{sequence: [{{ask: {{title: Well?, of: author}}, id: n{id}}}, {}]}}", self.node(depth - 1)),
            10 => format!(
                "{{sequence: [{{emit: {{topic: news, type: t{id}, data: {{n: $.input.n}}}}, id: n{id}}}, {}]}}",
                self.node(depth - 1)
            ),
            11 if n < 3 => format!("{{workflow: other, id: n{id}}}"),
            11 => format!("{{plan: {{agent: planner, id: q{id}, may: [pass]}}, id: n{id}}}"),
            // What is sent in a branch of its own context comes once all branches are over.
            12 if self.is_apart => format!("{{agent: b, id: n{id}}}"),
            12 => format!(
                "{{sequence: [{{emit: {{topic: t{id}, type: go, data: {n}}}}}, {{wait: {{topic: t{id}, match: {{type: go}}, since: run}}, \
                 id: n{id}}}, {{agent: pass, id: q{id}, with: $.steps.n{id}.output.data}}]}}"
            ),
            13 | 14 => {
                let was_apart = std::mem::replace(&mut self.is_apart, true);
                let (one, other) = (self.node(depth - 1), self.node(depth - 1));
                self.is_apart = was_apart;
                let fork = if kind == 13 { "session, messages" } else { "session" };
                let merge = if n.is_multiple_of(2) { "" } else { ", merge: {\"seen/\": keep-all}" };
                format!("{{parallel: [{one}, {other}], on-failure: continue, context: {{fork: [{fork}]{merge}}}}}")
            }
            15 => format!(
                "{{sequence: [{{agent: a, id: n{id}, when: {{pick: $.input.n, less: {n}}}}}, {}]}}",
                self.node(depth - 1)
            ),
            16 => format!("{{need: do what a does, among: [a], at-least: 0, id: n{id}}}"),
            17 if n < 3 => format!("{{agent: a, id: n{id}, validate: {{agent: approve}}}}"),
            17 => format!(
                "{{sequence: [{}], validate: {{json-schema: {{required: [step]}}}}, fallback: [{{agent: pass, id: n{id}}}]}}",
                self.node(depth - 1)
            ),
            _ => format!(
                "{{sequence: [{{agent: b, id: n{id}}}, {{agent: slow, id: s{id}}}], timeout: 10s, on-error: [{{do: {{agent: pass, id: \
                 e{id}, with: {{why: $.error.code}}}}}}]}}"
            ),
        }
    }
}
