//! What nodes do, and what every node may have, word by word.

use super::words::{Form, Is, Word, pattern, without_with, word};
use super::{CONDITION, NODE, ROLES, SHARE, STEP};
use crate::workflow::{Condition, Loop, MAX_DEPTH, MAX_NODES, MAX_STEPS, MapItems, Needed, Node, Planning};

/// What nodes do: a node has the word of one of these.
pub(in crate::workflow) static PATTERNS: [Form; 14] = [
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
pub(in crate::workflow) static PLANS: &[Word] = &[
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
pub(in crate::workflow) static MODIFIERS: &[Word] = &[
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

/// Of an event: texts by names.
pub(super) const ATTRIBUTES: Is = Is::Keyed(&Is::Text, Condition::MAX_TESTS);
const COLLECT: Is = Is::Either(&[Is::Words(&["list", "object", "merge", "first"]), STEP, Is::Of("vote")]);
/// Of what has no names.
const COLLECT_ITEMS: Is = Is::Either(&[Is::Words(&["list", "merge", "first"]), STEP, Is::Of("vote")]);
