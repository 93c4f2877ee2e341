//! The JSON Schema of documents, for editors: made of the tables of words below, of which the reader has its patterns.
//!
//! Invariants: a table names just the words that the reader takes of that object, which a test holds; what is right and wrong by its shape
//! is so for both. What a schema cannot say is the reader's alone: whether a name is there to be picked from, whether two things go together.
//!
//! To add a word: its line in the table of what it belongs to; to add a pattern: a table in [`PATTERNS`].

use serde_json::{Map, Value, json};

use super::{
    Ask, Condition, Debate, HandOff, Loop, MAX_DEPTH, MAX_NODES, MAX_STEPS, MapItems, Needed, Node, Planning, Retry,
};
use crate::failure::Code;
use crate::fork::Policies;
use crate::gather::{MAX_BATCH, Rate};
use crate::schedule::MAX_OF_A_DOCUMENT;
use crate::trigger::MAX_AT_ONCE;

/// Objects of one kind.
pub(super) struct Form {
    /// As the reader calls it where something is wrong.
    pub(super) what: &'static str,
    /// For people.
    about: &'static str,
    /// What may stand in it.
    pub(super) words: &'static [Word],
    /// What has to.
    required: &'static [&'static str],
    /// For a pattern: its word, and whether its node has a `with`.
    pub(super) pattern: Option<(&'static str, bool)>,
}

/// A word of an object.
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    is: Is,
}

/// What may stand under a word.
enum Is {
    /// Anything at all.
    Any,
    /// A name of ours.
    Name,
    /// An agent, of any version or of one.
    Agent,
    /// A text that is a pick.
    Pick,
    /// A duration as people write it.
    Duration,
    /// Any text.
    Text,
    /// A text that says something.
    Filled,
    /// True or false.
    Flag,
    /// Any number.
    Number,
    /// A number from one to the other.
    Between(f64, f64),
    /// A whole number from one to the other.
    Whole(u32, u32),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A code of a failure.
    Code,
    /// A JSON Pointer.
    Pointer,
    /// Of this definition.
    Of(&'static str),
    /// A list; at least so many, at most so many.
    List(&'static Is, usize, usize),
    /// An object of names, not empty.
    Named(&'static Is),
    /// An object of any names; at most so many.
    Keyed(&'static Is, usize),
    /// Any of these.
    Either(&'static [Is]),
    /// A schema itself.
    Schema,
}

const fn word(name: &'static str, about: &'static str, is: Is) -> Word {
    Word { name, about, is }
}

const NODE: Is = Is::Of("node");
/// Of an event: texts by names.
const ATTRIBUTES: Is = Is::Keyed(&Is::Text, Condition::MAX_TESTS);
const CONDITION: Is = Is::Of("condition");
const SHARE: Is = Is::Of("share");
/// An agent's step.
const STEP: Is = Is::Of("node-agent");
const COLLECT: Is = Is::Either(&[Is::Words(&["list", "object", "merge", "first"]), STEP, Is::Of("vote")]);
/// Of what has no names.
const COLLECT_ITEMS: Is = Is::Either(&[Is::Words(&["list", "merge", "first"]), STEP, Is::Of("vote")]);
/// Roles that people may have who are asked.
const ROLES: [&str; 3] = [Ask::ROLES[0].0, Ask::ROLES[1].0, Ask::ROLES[2].0];
/// As many as there are.
const MOST: usize = usize::MAX;

const fn form(
    what: &'static str,
    about: &'static str,
    words: &'static [Word],
    required: &'static [&'static str],
) -> Form {
    Form { what, about, words, required, pattern: None }
}

const fn pattern(
    of: &'static str,
    what: &'static str,
    about: &'static str,
    words: &'static [Word],
    required: &'static [&'static str],
) -> Form {
    Form { what, about, words, required, pattern: Some((of, true)) }
}

const fn without_with(form: Form) -> Form {
    let pattern = match form.pattern {
        Some((word, _)) => Some((word, false)),
        None => None,
    };
    Form { pattern, ..form }
}

/// What nodes do: a node has the word of one of these.
pub(super) static PATTERNS: [Form; 14] = [
    pattern(
        "agent",
        "a step",
        "One agent's step",
        &[word(
            "agent",
            "Who does it: `NAME` is the newest version when the run begins, `NAME@sha256:…` that version",
            Is::Agent,
        )],
        &["agent"],
    ),
    pattern(
        "need",
        "a step with `need`",
        "One step of whichever agent fits best",
        &[
            word("need", "What is to be done, in words", Is::Filled),
            word(
                "among",
                "The agents of which one is taken; without it all of the tenant's are looked at",
                Is::List(&Is::Agent, 1, Needed::MAX_AMONG),
            ),
            word("at-least", "Who fits less well is not taken (default: 0.2)", Is::Between(0.0, 1.0)),
        ],
        &["need"],
    ),
    pattern(
        "workflow",
        "`workflow`",
        "Another workflow, as a run of its own",
        &[
            word("workflow", "Which, as it is when it is started", Is::Name),
            word(
                "on-parent-end",
                "What becomes of its run where this one is over before it (default: cancel)",
                Is::Words(&["cancel", "abandon"]),
            ),
        ],
        &["workflow"],
    ),
    pattern(
        "plan",
        "`plan`",
        "A document that an agent writes, which is checked and done as a run of its own",
        &[word("plan", "The agent's step, and what may stand in the document", Is::Of("plan"))],
        &["plan"],
    ),
    pattern(
        "wait",
        "`wait`",
        "Nothing is done for so long, until a time, or until an event comes",
        &[word("wait", "How long, until when, or for which event", Is::Either(&[Is::Duration, Is::Of("waited")]))],
        &["wait"],
    ),
    pattern(
        "ask",
        "`ask`",
        "A question to people; the answer is what the node gives",
        &[word("ask", "What is asked, and of whom", Is::Of("ask"))],
        &["ask"],
    ),
    pattern("emit", "`emit`", "Publishes an event, once", &[word("emit", "The event", Is::Of("emit"))], &["emit"]),
    pattern(
        "sequence",
        "`sequence`",
        "One node after the other; each works on what the one before gave",
        &[word("sequence", "The nodes, in order", Is::List(&NODE, 1, MAX_NODES))],
        &["sequence"],
    ),
    pattern(
        "parallel",
        "`parallel`",
        "Nodes side by side, all on the same input",
        &[
            word(
                "parallel",
                "The branches: a list, or an object of named ones",
                Is::Either(&[Is::List(&NODE, 1, MAX_NODES), Is::Named(&NODE)]),
            ),
            word(
                "need",
                "How many branches have to succeed (default: all)",
                Is::Either(&[Is::Words(&["all", "any"]), Is::Whole(1, u32::MAX), SHARE]),
            ),
            word(
                "on-failure",
                "What becomes of the others once `need` cannot be met any more (default: stop)",
                Is::Words(&["stop", "continue"]),
            ),
            word(
                "on-loss",
                "What becomes of branches that are not needed any more (default: cancel)",
                Is::Words(&["cancel", "finish"]),
            ),
            word("at-once", "How many are under way at once (default: all)", Is::Whole(1, MapItems::MAX_AT_ONCE)),
            word("collect", "What it gives (default: a list for a list, an object for named branches)", COLLECT),
            word("context", "What its branches have to themselves until they come together", Is::Of("context")),
        ],
        &["parallel"],
    ),
    pattern(
        "debate",
        "`debate`",
        "Agents that speak in turn, each knowing what was said before",
        &[word("debate", "Who speaks, for how long, and who closes it", Is::Of("debate"))],
        &["debate"],
    ),
    pattern(
        "hand-off",
        "`hand-off`",
        "A conversation: one agent holds it, and hands it on to another one by a host call",
        &[word("hand-off", "Who holds it first, among whom it goes, and what passes", Is::Of("hand-off"))],
        &["hand-off"],
    ),
    pattern(
        "choice",
        "`choice`",
        "The first option whose `when` holds; `else`, which is last, where none does",
        &[word(
            "choice",
            "The options, in the order in which they are looked at",
            Is::List(&Is::Either(&[Is::Of("option"), Is::Of("else")]), 1, MAX_NODES),
        )],
        &["choice"],
    ),
    without_with(pattern(
        "map",
        "`map`",
        "The same for every item of a list, side by side",
        &[
            word("map", "The list", Is::Either(&[Is::Pick, Is::Of("pick-or-else")])),
            word("as", "What an item is called: `$.item.NAME`", Is::Name),
            word("do", "What is done with each", NODE),
            word("at-once", "How many are under way at once (default: 16)", Is::Whole(1, MapItems::MAX_AT_ONCE)),
            word(
                "tolerate",
                "How many may fail, or which share of them (default: none)",
                Is::Either(&[Is::Whole(0, MapItems::MAX_ITEMS as u32), SHARE]),
            ),
            word("context", "What each item's work has to itself until they come together", Is::Of("context")),
            word("collect", "What it gives (default: a list)", COLLECT_ITEMS),
        ],
        &["map", "do"],
    )),
    pattern(
        "loop",
        "`loop`",
        "The same again and again; each round works on what the one before gave",
        &[
            word("loop", "What is done in each round", NODE),
            word("until", "Looked at after every round; without it all rounds are made", CONDITION),
            word("at-most", "The most rounds", Is::Whole(1, Loop::MAX_ROUNDS)),
            word(
                "stall",
                "So many rounds in a row that give the same are one too many",
                Is::Whole(2, Loop::MAX_ROUNDS),
            ),
        ],
        &["loop", "at-most"],
    ),
];

/// What stands in a plan beside the step of the agent that writes it.
pub(super) static PLANS: &[Word] = &[
    word("may", "The agents that may stand in the document", Is::List(&Is::Agent, 1, Planning::MAX_MAY)),
    word("depth", "How deep its patterns may nest (default: 4)", Is::Whole(1, MAX_DEPTH as u32)),
    word("at-most", "How many steps it may have (default: 20)", Is::Whole(1, MAX_STEPS as u32)),
    word(
        "approve",
        "Whether people have to approve of it before it is done, and the smallest role that may (default: false)",
        Is::Either(&[Is::Flag, Is::Words(&ROLES)]),
    ),
];

/// What every node may have.
pub(super) static MODIFIERS: &[Word] = &[
    word("id", "The name others pick by; unique in the document", Is::Name),
    word("when", "Where it does not hold the node is skipped", CONDITION),
    word(
        "with",
        "What the node's input is made of: a pick, or fields over what comes before",
        Is::Either(&[Is::Pick, Is::Of("fields")]),
    ),
    word("validate", "Who judges the node's output", Is::Of("validate")),
    word("retry", "How often it is tried", Is::Of("retry")),
    word("timeout", "How long it may take, all its tries and pauses together", Is::Duration),
    word("fallback", "Nodes that are tried in order where it fails", Is::List(&NODE, 1, Node::MAX_RESCUES)),
    word(
        "on-error",
        "What is done where it fails and no fallback helped: the first whose `when` holds",
        Is::List(&Is::Of("handler"), 1, Node::MAX_RESCUES),
    ),
    word("compensate", "What undoes its own work, where that turns out to have been in vain", NODE),
];

/// The document itself, and what stands in it that is no node.
pub(super) static FORMS: [(&str, Form); 26] = [
    (
        "document",
        form(
            "a document",
            "A workflow: a name and a tree of nodes",
            &[
                word("name", "Its name, which it is put under", Is::Name),
                word(
                    "on",
                    "What starts it by itself",
                    Is::List(&Is::Either(&[Is::Of("schedule"), Is::Of("heard")]), 1, MAX_OF_A_DOCUMENT),
                ),
                word("flow", "What it does", NODE),
            ],
            &["name", "flow"],
        ),
    ),
    (
        "schedule",
        form(
            "a schedule",
            "When it is started by itself",
            &[
                word("schedule", "Five fields as of cron, or a word such as `@daily`", Is::Text),
                word("zone", "The time zone, such as `Europe/Berlin` (default: UTC)", Is::Text),
                word("overlap", "What becomes of a tick while the run before is not over", Is::Text),
                word("catch-up", "For how long a tick is made up for that was missed", Is::Duration),
                word("input", "What each run is given", Is::Any),
            ],
            &["schedule"],
        ),
    ),
    (
        "heard",
        form(
            "a subscription",
            "Events that start it: each one run",
            &[
                word("topic", "Of which topic; or `memory`", Is::Text),
                word("memory", "Changes of memory: of keys that begin with this", Is::Text),
                word("scope", "In which scope of memory (default: global)", Is::Words(&["global", "agent", "session"])),
                word("owner", "Which agent's memory, or which session's", Is::Filled),
                word(
                    "where",
                    "Which of them; without it all",
                    Is::Either(&[CONDITION, Is::List(&CONDITION, 0, Condition::MAX_TESTS)]),
                ),
                word("at-once", "How many runs are under way at once (default: 8)", Is::Whole(1, MAX_AT_ONCE)),
                word(
                    "on-poison",
                    "What becomes of later events of its key where a run failed (default: park-key)",
                    Is::Words(&["park-key", "skip"]),
                ),
                word("rate", "How many runs start in how long", Is::Of("rate")),
                word("debounce", "The last event of a key starts a run, once no other came for so long", Is::Duration),
                word("batch", "So many events of a key start a run, or what there is after a time", Is::Of("batch")),
                word("join", "Events that belong together start a run", Is::Of("join")),
            ],
            &[],
        ),
    ),
    (
        "rate",
        form(
            "`rate`",
            "How many runs start in how long",
            &[word("starts", "How many", Is::Whole(1, Rate::MAX_STARTS)), word("per", "In how long", Is::Duration)],
            &["starts", "per"],
        ),
    ),
    (
        "batch",
        form(
            "`batch`",
            "So many events of a key start a run, or what there is after a time",
            &[
                word("events", "How many", Is::Whole(2, MAX_BATCH)),
                word("within", "After how long from the first it is what there is", Is::Duration),
            ],
            &["events", "within"],
        ),
    ),
    (
        "join",
        form(
            "`join`",
            "Events that belong together start a run",
            &[
                word("of", "Which events, each kind under a name of its own", Is::Any),
                word("need", "How many of them (default: all)", Is::Either(&[Is::Words(&["all"]), Is::Whole(1, 16)])),
                word("by", "Where an event says with which others it belongs", Is::Text),
                word("within", "After how long from the first it is what there is", Is::Duration),
            ],
            &["of", "by", "within"],
        ),
    ),
    (
        "waited",
        form(
            "what `wait` waits for",
            "A time, or an event of a topic that fits, which is what the node gives",
            &[
                word(
                    "until",
                    "RFC 3339 in UTC, or a pick of a text that is",
                    Is::Either(&[Is::Text, Is::Of("pick-or-else")]),
                ),
                word("topic", "Which topic", Is::Text),
                word("match", "Which events wake the run", Is::Of("match")),
                word("where", "What holds of the event, which is `$.event`", CONDITION),
                word("since", "From when on events are looked at (default: now)", Is::Words(&["now", "run"])),
            ],
            &[],
        ),
    ),
    (
        "match",
        form(
            "`match`",
            "Events of this type and this subject",
            &[
                word("type", "What happened", Is::Text),
                word("subject", "What it is about", Is::Either(&[Is::Text, Is::Of("pick-or-else")])),
            ],
            &[],
        ),
    ),
    (
        "ask",
        form(
            "what is asked",
            "A question to people",
            &[
                word("title", "What is asked, in a line", Is::Text),
                word("of", "The smallest role that may answer", Is::Words(&ROLES)),
                word("show", "What whoever answers is shown", Is::Of("template")),
                word("schema", "What an answer has to fit; without it any JSON does", Is::Schema),
                word("remind", "How people are reminded while nobody answers", Is::Of("remind")),
            ],
            &["title", "of"],
        ),
    ),
    (
        "remind",
        form(
            "how people are reminded",
            "Events of type `approval.waiting`, while nobody answers",
            &[word("every", "How often, such as `4h`", Is::Duration), word("topic", "Where to", Is::Text)],
            &["every", "topic"],
        ),
    ),
    (
        "emit",
        form(
            "an event",
            "What happened",
            &[
                word("topic", "Where to", Is::Text),
                word("type", "What happened", Is::Text),
                word("subject", "What it is about", Is::Either(&[Is::Text, Is::Of("pick-or-else")])),
                word("data", "Its content; without it what the node works on", Is::Of("template")),
            ],
            &["topic", "type"],
        ),
    ),
    (
        "context",
        form(
            "`context`",
            "What branches have to themselves, and what becomes of it",
            &[
                word(
                    "fork",
                    "What each branch has of its own: memory of the session, and the messages it sends, which are held",
                    Is::List(&Is::Words(&["session", "messages"]), 1, 2),
                ),
                word(
                    "merge",
                    "What is taken where branches conflict, by what keys begin with; `*`: of all others (default: fail)",
                    Is::Keyed(
                        &Is::Either(&[
                            Is::Words(&["fail", "first", "last", "keep-all", "ask"]),
                            Is::Of("policy"),
                            STEP,
                            Is::Of("asking"),
                        ]),
                        Policies::MOST,
                    ),
                ),
            ],
            &["fork"],
        ),
    ),
    (
        "policy",
        form(
            "a policy",
            "What is taken of a key where branches conflict",
            &[word("prefer", "What the first of these branches did that changed it", Is::List(&Is::Name, 1, MOST))],
            &["prefer"],
        ),
    ),
    (
        "asking",
        form(
            "a policy `ask`",
            "People say what is taken of a key where branches conflict",
            &[
                word("ask", "Who", Is::Of("asked")),
                word("id", "What the question is called", Is::Name),
                word("timeout", "How long they have; then the branches conflict", Is::Duration),
            ],
            &["ask"],
        ),
    ),
    (
        "asked",
        form(
            "who is asked",
            "Who says what is taken of a key where branches conflict",
            &[
                word("of", "The smallest role that may answer (default: author)", Is::Words(&["admin", "author"])),
                word("remind", "How people are reminded while nobody answers", Is::Of("remind")),
            ],
            &[],
        ),
    ),
    (
        "vote",
        form(
            "a vote",
            "The value that branches vote for, with the counts of all",
            &[
                word("vote", "Where in what a branch gives its vote stands; empty for the whole", Is::Pointer),
                word(
                    "rule",
                    "When a value has won (default: majority)",
                    Is::Words(&["majority", "plurality", "unanimous"]),
                ),
                word("tie", "Who says what has won where no value has; without it the node fails", STEP),
            ],
            &["vote"],
        ),
    ),
    (
        "debate",
        form(
            "a debate",
            "Agents that speak in turn",
            &[
                word(
                    "among",
                    "Those who speak: agents, or steps of such",
                    Is::List(&Is::Either(&[Is::Agent, STEP]), 2, Debate::MAX_AMONG),
                ),
                word(
                    "next",
                    "Who says whose turn it is (default: round-robin, one after the other)",
                    Is::Either(&[Is::Words(&["round-robin"]), STEP]),
                ),
                word(
                    "rounds",
                    "At most so many rounds, of as many turns as `among` has agents",
                    Is::Whole(1, Debate::MAX_ROUNDS),
                ),
                word("until", "Looked at after every turn; `$.last` is what it gave", CONDITION),
                word("close", "Who says at its end what it gives; without it that is what was said last", STEP),
            ],
            &["among", "rounds"],
        ),
    ),
    (
        "hand-off",
        form(
            "a hand-off",
            "A conversation that agents hand on to each other",
            &[
                word("start", "Who holds it first", Is::Name),
                word(
                    "among",
                    "Those that may hold it: agents, or steps of such",
                    Is::List(&Is::Either(&[Is::Agent, STEP]), 2, HandOff::MAX_AMONG),
                ),
                word(
                    "pass",
                    "What of the conversation a receiver gets (default: full)",
                    Is::Either(&[Is::Words(&["full", "summary"]), Is::Of("pass")]),
                ),
                word("at-most", "At most so many hand-offs (default: 6)", Is::Whole(1, HandOff::MAX_AT_MOST)),
                word(
                    "per-pair",
                    "At most so many of them from one agent to the same other one (default: 2)",
                    Is::Whole(1, HandOff::MAX_AT_MOST),
                ),
                word(
                    "idle",
                    "In a session: after so long without a turn it is with `start` again (default: never)",
                    Is::Duration,
                ),
            ],
            &["start", "among"],
        ),
    ),
    (
        "pass",
        form(
            "`pass`",
            "What of a conversation passes: what was said in the last turns, or fields of what the giver passes",
            &[
                word("last", "So many turns", Is::Whole(1, HandOff::MAX_LAST)),
                word("fields", "Their names", Is::List(&Is::Text, 1, HandOff::MAX_FIELDS)),
            ],
            &[],
        ),
    ),
    (
        "option",
        form(
            "an option of `choice`",
            "An option: done where its `when` is the first that holds",
            &[word("when", "When it is done", CONDITION), word("do", "What is done", NODE)],
            &["when", "do"],
        ),
    ),
    (
        "else",
        form(
            "`else`",
            "What is done where no option holds; the last",
            &[word("else", "What is done", NODE)],
            &["else"],
        ),
    ),
    (
        "handler",
        form(
            "an entry of `on-error`",
            "What is done where a node has failed",
            &[
                word("when", "When it is done; without it always", CONDITION),
                word("do", "What is done; `$.error` says what went wrong", NODE),
            ],
            &["do"],
        ),
    ),
    (
        "validate",
        form(
            "`validate`",
            "By a JSON Schema, or by an agent with the role of a validator",
            &[word("json-schema", "The schema", Is::Schema), word("agent", "The validator", Is::Agent)],
            &[],
        ),
    ),
    (
        "retry",
        form(
            "`retry`",
            "So many tries in all, with back-off at random below what grows by `factor` up to `max`",
            &[
                word("attempts", "All tries together (default: 3)", Is::Whole(1, Retry::MAX_ATTEMPTS)),
                word("backoff", "The longest wait after the first try (default: 200ms)", Is::Duration),
                word(
                    "factor",
                    "What each further wait is multiplied by (default: 2)",
                    Is::Between(1.0, Retry::MAX_FACTOR),
                ),
                word("max", "No wait is longer (default: 30s)", Is::Duration),
                word("on", "After which failures; without it after those that may pass", Is::List(&Is::Code, 1, MOST)),
                word("then", "What comes after the last", Is::Words(&["fail", "pause"])),
            ],
            &[],
        ),
    ),
    ("share", form("`need`", "A share of all", &[word("share", "Above 0, and at most 1", Is::Any)], &["share"])),
    (
        "condition",
        form(
            "a condition",
            "What holds or does not; what is not there does not hold",
            &[
                word("all", "Every one of these holds", Is::List(&CONDITION, 1, MOST)),
                word("any", "At least one of these holds", Is::List(&CONDITION, 1, MOST)),
                word("not", "This does not hold", CONDITION),
                word("pick", "What is looked at", Is::Pick),
                word("else", "The value of what is not there", Is::Any),
                word("equals", "It is this", Is::Any),
                word("in", "It is one of these", Is::List(&Is::Any, 0, MOST)),
                word("less", "It is a number less than this", Is::Number),
                word("at-least", "It is a number that is this or more", Is::Number),
                word("exact", "Of an event: these attributes have these values", ATTRIBUTES),
                word(
                    "prefix",
                    "It is a text that begins so; of an event, these attributes do",
                    Is::Either(&[Is::Text, ATTRIBUTES]),
                ),
                word(
                    "suffix",
                    "It is a text that ends so; of an event, these attributes do",
                    Is::Either(&[Is::Text, ATTRIBUTES]),
                ),
                word("exists", "Whether there is anything", Is::Flag),
            ],
            &[],
        ),
    ),
];

const NAME: &str = "[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?";
/// After a pick's source: a dotted path, or a JSON Pointer.
const PATH: &str = r"(?:(?:\.[^./~]+)*|(?:/(?:[^/~]|~[01])*)+)";
const DURATION: &str = "^(?: *[0-9]+ *(?:ms|msec|millis|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|day|days|w|wk|wks|week|weeks|M|month|months|y|yr|yrs|year|years))+ *$";

/// The whole schema.
pub fn schema() -> Value {
    let mut defs = Map::new();
    for (name, form) in &FORMS {
        defs.insert((*name).to_owned(), form.schema());
    }
    for form in &PATTERNS {
        if let Some((word, _)) = form.pattern {
            defs.insert(format!("node-{word}"), form.schema());
        }
    }
    defs.insert("node".into(), json!({"description": "A node: what it does, and its modifiers", "anyOf": nodes()}));
    let one_of = |words: &[&str]| -> Value { words.iter().map(|word| json!({"required": [word]})).collect() };
    // A time has nothing beside it.
    defs["waited"]["oneOf"] = json!([{"required": ["until"], "maxProperties": 1}, {"required": ["topic"]}]);
    defs["validate"]["oneOf"] = one_of(&["json-schema", "agent"]);
    defs["share"]["properties"]["share"] = json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1});
    let tests = ["equals", "in", "less", "at-least", "prefix", "suffix", "exists"];
    // A pick has one test; what joins conditions has nothing beside it.
    defs["condition"]["oneOf"] = json!([
        {"required": ["all"], "maxProperties": 1},
        {"required": ["any"], "maxProperties": 1},
        {"required": ["not"], "maxProperties": 1},
        {"required": ["exact"], "maxProperties": 1},
        {"required": ["prefix"], "maxProperties": 1, "properties": {"prefix": {"type": "object"}}},
        {"required": ["suffix"], "maxProperties": 1, "properties": {"suffix": {"type": "object"}}},
        {
            "required": ["pick"], "oneOf": one_of(&tests), "not": {"required": ["exact"]},
            "properties": {"prefix": {"type": "string"}, "suffix": {"type": "string"}},
        },
    ]);
    defs.insert("plan".into(), plan());
    defs.insert("pick".into(), json!({"type": "string", "maxLength": super::Pick::MAX_LEN, "pattern": pick()}));
    let pick_or_else = json!({
        "type": "object", "required": ["pick", "else"], "maxProperties": 2,
        "properties": {"pick": {"$ref": "#/$defs/pick"}, "else": true},
    });
    defs.insert("pick-or-else".into(), pick_or_else);
    // A text that begins with `$` is a pick, or written `$$…`.
    defs.insert(
        "template".into(),
        json!({"anyOf": [
            {"type": "string", "pattern": r"^(?:[^$]|\$\$|$)"},
            {"$ref": "#/$defs/pick"},
            {"type": ["number", "boolean", "null"]},
            {"type": "array", "items": {"$ref": "#/$defs/template"}},
            {"$ref": "#/$defs/fields"},
        ]}),
    );
    let fields = json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/template"}});
    defs.insert("fields".into(), json!({"anyOf": [{"$ref": "#/$defs/pick-or-else"}, fields]}));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "LTMC workflow",
        "$ref": "#/$defs/document",
        "$defs": defs,
    })
}

/// An agent's step with what is said of its plan.
fn plan() -> Value {
    let mut plan = PATTERNS[0].schema();
    plan["title"] = "a plan".into();
    plan["description"] = "The step of the agent that writes the document, and what may stand in that".into();
    plan["required"] = json!(["agent", "may"]);
    for word in PLANS {
        plan["properties"][word.name] = word.schema();
    }
    plan
}

fn nodes() -> Vec<Value> {
    PATTERNS.iter().filter_map(|form| Some(json!({"$ref": format!("#/$defs/node-{}", form.pattern?.0)}))).collect()
}

fn pick() -> String {
    let of_items = format!(r"(?:item|index)(?:{PATH}|\.{NAME}(?:/(?:[^/~]|~[01])*)+)");
    let of_steps = format!(r"steps\.{NAME}(?:\.output{PATH}|(?:/(?:[^/~]|~[01])*)+)");
    format!(
        r"^\$\.(?:(?:input|round|last|error|output|given|event|data|run\.scheduled-at){PATH}|{of_items}|{of_steps})$"
    )
}

impl Form {
    fn schema(&self) -> Value {
        let modifiers = self
            .pattern
            .iter()
            .flat_map(|(_, has_with)| MODIFIERS.iter().filter(move |word| *has_with || word.name != "with"));
        let properties: Map<String, Value> =
            self.words.iter().chain(modifiers).map(|word| (word.name.to_owned(), word.schema())).collect();
        let mut schema = json!({
            "title": self.what.replace('`', ""),
            "description": self.about,
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}

impl Word {
    fn schema(&self) -> Value {
        let is = self.is.schema();
        match is {
            Value::Object(mut fields) => {
                fields.insert("description".into(), self.about.into());
                Value::Object(fields)
            }
            _ => json!({"description": self.about}),
        }
    }
}

impl Is {
    fn schema(&self) -> Value {
        match self {
            Self::Any => Value::Bool(true),
            Self::Name => json!({"type": "string", "pattern": format!("^{NAME}$")}),
            Self::Agent => json!({"type": "string", "pattern": format!("^{NAME}(?:@sha256:[0-9a-f]{{64}})?$")}),
            Self::Pick => json!({"$ref": "#/$defs/pick"}),
            Self::Pointer => json!({"type": "string", "pattern": r"^(?:/(?:[^/~]|~[01])*)*$"}),
            Self::Duration => json!({"type": "string", "pattern": DURATION, "examples": ["200ms", "2s", "1m"]}),
            Self::Text => json!({"type": "string"}),
            Self::Filled => json!({"type": "string", "pattern": r"\S", "maxLength": Needed::MAX_TEXT}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Number => json!({"type": "number"}),
            Self::Between(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
            Self::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Words(words) => json!({"enum": words}),
            Self::Code => json!({"enum": Code::ALL.map(Code::as_str)}),
            Self::Of(name) => json!({"$ref": format!("#/$defs/{name}")}),
            Self::List(of, least, most) => {
                let mut list = json!({"type": "array", "items": of.schema()});
                if *least > 0 {
                    list["minItems"] = (*least).into();
                }
                if *most < MOST {
                    list["maxItems"] = (*most).into();
                }
                list
            }
            Self::Named(of) => json!({
                "type": "object", "minProperties": 1, "maxProperties": MAX_NODES, "propertyNames": {"pattern": format!("^{NAME}$")},
                "additionalProperties": of.schema(),
            }),
            Self::Keyed(of, most) => {
                json!({"type": "object", "maxProperties": most, "additionalProperties": of.schema()})
            }
            Self::Either(all) => json!({"anyOf": all.iter().map(Self::schema).collect::<Vec<_>>()}),
            Self::Schema => json!({"type": ["object", "boolean"]}),
        }
    }
}
