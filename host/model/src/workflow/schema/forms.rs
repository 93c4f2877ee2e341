//! The document itself, and what stands in it that is no node, word by word.

use super::patterns::ATTRIBUTES;
use super::words::{Form, Is, MOST, form, word};
use super::{CONDITION, NODE, ROLES, STEP};
use crate::fork::Policies;
use crate::gather::{MAX_BATCH, Rate};
use crate::schedule::MAX_OF_A_DOCUMENT;
use crate::trigger::MAX_AT_ONCE;
use crate::workflow::{Condition, Debate, HandOff, Retry};

/// The document itself, and what stands in it that is no node.
pub(in crate::workflow) static FORMS: [(&str, Form); 26] = [
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
                word("until", "After when it comes no more, such as `2027-12-31T00:00:00Z`", Is::Text),
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
                word("json-schema", "It fits this JSON Schema", Is::Schema),
            ],
            &[],
        ),
    ),
];
