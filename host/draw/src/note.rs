//! Parts of a document in few words: those of the document.

use std::time::Duration;

use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Role;
use ltmc_model::workflow::{
    Ask, Collect, Condition, Context, Debate, Emit, HandOff, Listen, Loop, MapItems, Moment, Need, Needed, OnFailure,
    OnLoss, Parallel, Pass, Pick, Planning, Retry, Since, Template, Test, Then, Tolerate, Vote, Wait, With,
};

/// How much of a digest is shown.
const DIGEST: usize = 15;

/// An id, and what has it.
pub(crate) fn called(id: Option<&str>, what: &str) -> String {
    id.map_or_else(|| what.to_owned(), |id| format!("{id} ({what})"))
}

pub(crate) fn agent(agent: &AgentRef) -> String {
    match agent.digest {
        None => agent.name.to_string(),
        Some(digest) => format!("{}@{}…", agent.name, digest.to_string().chars().take(DIGEST).collect::<String>()),
    }
}

pub(crate) fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A condition in one line.
pub(crate) fn condition(condition: &Condition) -> String {
    match condition {
        Condition::All(parts) => joined(parts, " and "),
        Condition::Any(parts) => joined(parts, " or "),
        Condition::Not(part) => format!("not {}", within(part)),
        Condition::Test { pick, test } => {
            let pick = pick.to_string();
            match test {
                Test::Equals(value) => format!("{pick} = {value}"),
                Test::In(values) => {
                    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                    format!("{pick} in [{}]", values.join(", "))
                }
                Test::Less(number) => format!("{pick} < {number}"),
                Test::AtLeast(number) => format!("{pick} ≥ {number}"),
                Test::Prefix(text) => format!("{pick} begins with {text:?}"),
                Test::Suffix(text) => format!("{pick} ends with {text:?}"),
                Test::Exists(true) => format!("{pick} exists"),
                Test::Exists(false) => format!("no {pick}"),
                Test::Fits(_) => format!("{pick} fits a schema"),
            }
        }
    }
}

fn joined(parts: &[Condition], by: &str) -> String {
    parts.iter().map(within).collect::<Vec<_>>().join(by)
}

fn within(part: &Condition) -> String {
    match part {
        Condition::All(_) | Condition::Any(_) => format!("({})", condition(part)),
        Condition::Not(_) | Condition::Test { .. } => condition(part),
    }
}

pub(crate) fn with(with: &With) -> String {
    match with {
        With::Pick(pick) => pick.to_string(),
        With::Fields(fields) => {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            format!("{{{}}}", names.join(", "))
        }
    }
}

/// What is said of a retry; none: there is one try.
pub(crate) fn retry(retry: &Retry) -> Option<String> {
    let Retry { attempts, backoff, factor: _, max: _, on, then } = retry;
    let then = if *then == Then::Pause { ", then pause" } else { "" };
    (*attempts > 1 || !then.is_empty()).then(|| {
        let codes: Vec<&str> = on.iter().map(|code| code.as_str()).collect();
        let on = if codes.is_empty() { String::new() } else { format!(" on {}", codes.join(", ")) };
        format!("retry {attempts} attempts, backoff {}{on}{then}", duration(*backoff))
    })
}

/// What of a parallel is not as by default.
pub(crate) fn parallel(parallel: &Parallel) -> Vec<String> {
    let Parallel { branches, need, on_failure, on_loss, at_once, collect, context } = parallel;
    let need = match need {
        Need::All => None,
        Need::Any => Some("need any".to_owned()),
        Need::Count(count) => Some(format!("need {count}")),
        Need::Share(share) => Some(format!("need share {share}")),
    };
    let is_named = branches.iter().any(|(name, _)| name.is_some());
    let collect = match (collect, is_named) {
        (Collect::List, false) | (Collect::Object, true) => None,
        (collect, _) => self::collect(collect),
    };
    let on_failure = (*on_failure == OnFailure::Continue).then(|| "on-failure continue".to_owned());
    let on_loss = (*on_loss == OnLoss::Finish).then(|| "on-loss finish".to_owned());
    let at_once = at_once.map(|at_once| format!("at-once {at_once}"));
    [need, on_failure, on_loss, at_once, collect, forked(context.as_ref())].into_iter().flatten().collect()
}

/// What branches have to themselves.
fn forked(context: Option<&Context>) -> Option<String> {
    let Context { session, messages, merge: _, settle: _ } = context?;
    let forked = [("session", session), ("messages", messages)].into_iter().filter(|(_, is_forked)| **is_forked);
    let forked: Vec<&str> = forked.map(|(scope, _)| scope).collect();
    Some(format!("forks {}", forked.join(", ")))
}

/// How branches are made one; none: by a step, which is drawn.
fn collect(collect: &Collect) -> Option<String> {
    match collect {
        Collect::List => Some("collect list".to_owned()),
        Collect::Object => Some("collect object".to_owned()),
        Collect::Merge => Some("collect merge".to_owned()),
        Collect::First => Some("collect first".to_owned()),
        Collect::Agent(_) => None,
        Collect::Vote(vote) => {
            let Vote { path, rule, tie: _ } = vote.as_ref();
            let at = if path.is_empty() { String::new() } else { format!(" at {}", vote.pointer()) };
            Some(format!("vote{at} by {}", rule.as_str()))
        }
    }
}

/// How long a debate is, and what it ends by.
pub(crate) fn debate(debate: &Debate) -> Vec<String> {
    let Debate { turn: _, rounds, until, close: _ } = debate;
    let until = until.as_ref().map(|until| format!("until {}", condition(until)));
    until.into_iter().chain([format!("rounds {rounds}")]).collect()
}

/// Who holds a conversation first, what passes, and how often it goes on.
pub(crate) fn hand_off(goes: &HandOff) -> Vec<String> {
    let HandOff { turn: _, start, pass, at_most, per_pair, idle } = goes;
    let start = goes.names().get(*start).map(|start| format!("starts with {start}"));
    let pass = match pass {
        Pass::Full => None,
        Pass::Last(turns) => Some(format!("passes the last {turns}")),
        Pass::Summary => Some("passes a summary".to_owned()),
        Pass::Fields(fields) => Some(format!("passes {}", fields.join(", "))),
    };
    let idle = idle.map(|idle| format!("idle {}", duration(idle)));
    [start, pass, Some(format!("at-most {at_most}, per-pair {per_pair}")), idle].into_iter().flatten().collect()
}

pub(crate) fn needed(needed: &Needed) -> Vec<String> {
    let Needed { text, among, at_least } = needed;
    let among: Vec<String> = among.iter().map(|(one, _)| agent(one)).collect();
    let among = (!among.is_empty()).then(|| format!("among {}", among.join(", ")));
    let at_least = (*at_least != Needed::AT_LEAST).then(|| format!("at-least {at_least}"));
    [Some(text.clone()), among, at_least].into_iter().flatten().collect()
}

/// What a `wait` is called: for how long, until when, or for which event.
pub(crate) fn wait(wait: &Wait, notes: &mut Vec<String>) -> String {
    match wait {
        Wait::For(long) => format!("wait {}", duration(*long)),
        Wait::Until(Moment::At(at)) => format!("wait until {at}"),
        Wait::Until(Moment::Picked(of)) => format!("wait until {}", pick(of)),
        Wait::Event(listen) => {
            let Listen { topic, subject, kind, filter, since } = listen.as_ref();
            notes.extend(kind.as_ref().map(|kind| format!("type {kind}")));
            notes.extend(subject.as_ref().map(|subject| format!("subject {}", template(subject))));
            notes.extend(filter.as_ref().map(|filter| format!("where {}", condition(filter))));
            notes.extend((*since == Since::Run).then(|| "since run".to_owned()));
            format!("wait {topic}")
        }
    }
}

fn role(of: Role) -> &'static str {
    Ask::ROLES.iter().find(|(_, role)| *role == of).map_or("", |(word, _)| word)
}

/// What is asked, and of whom.
pub(crate) fn ask(ask: &Ask) -> Vec<String> {
    let Ask { title, of, show, schema, remind } = ask;
    let mut notes = vec![title.clone(), format!("of {}", role(*of))];
    notes.extend(show.as_ref().map(|show| format!("show {}", template(show))));
    notes.extend(schema.as_ref().map(|_| "schema".to_owned()));
    notes.extend(remind.as_ref().map(|remind| format!("reminds {} every {}", remind.topic, duration(remind.every))));
    notes
}

/// What is published, and where.
pub(crate) fn emit(emit: &Emit) -> Vec<String> {
    let Emit { topic, kind, subject, data } = emit;
    let mut notes = vec![format!("{kind} to {topic}")];
    notes.extend(subject.as_ref().map(|subject| format!("subject {}", template(subject))));
    notes.extend(data.as_ref().map(|data| format!("data {}", template(data))));
    notes
}

fn template(of: &Template) -> String {
    match of {
        Template::Constant(value) => value.to_string(),
        Template::Pick(of) => pick(of),
        Template::Object(fields) => {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            format!("{{{}}}", names.join(", "))
        }
        Template::Array(items) => format!("a list of {}", items.len()),
    }
}

pub(crate) fn plan(planning: &Planning) -> Vec<String> {
    let Planning { planner: _, may, depth, at_most, approve } = planning;
    let may: Vec<String> = may.iter().map(|(one, _)| agent(one)).collect();
    let approve = approve.map(|of| format!("approved by {}", role(of)));
    let bounds = [format!("may {}", may.join(", ")), format!("depth {depth}, at-most {at_most}")];
    bounds.into_iter().chain(approve).collect()
}

pub(crate) fn map(map: &MapItems) -> Vec<String> {
    let MapItems { over, name, body: _, at_once, tolerate, context, collect } = map;
    let name = name.as_ref().map_or_else(String::new, |name| format!(" as {name}"));
    let tolerate = match tolerate {
        Tolerate::Count(0) => None,
        Tolerate::Count(count) => Some(format!("tolerate {count}")),
        Tolerate::Share(share) => Some(format!("tolerate share {share}")),
    };
    let of = format!("each of {}{name}", pick(over));
    let forked = forked(context.as_ref());
    let collect = if *collect == Collect::List { None } else { self::collect(collect) };
    [Some(of), Some(format!("at-once {at_once}")), tolerate, collect, forked].into_iter().flatten().collect()
}

pub(crate) fn again(again: &Loop) -> Vec<String> {
    let Loop { body: _, until, at_most, stall } = again;
    let until = until.as_ref().map(|until| format!("until {}", condition(until)));
    let stall = stall.map(|stall| format!("stall {stall}"));
    [until, Some(format!("at-most {at_most}")), stall].into_iter().flatten().collect()
}

fn pick(pick: &Pick) -> String {
    match &pick.or_else {
        None => pick.to_string(),
        Some(or_else) => format!("{pick}, else {or_else}"),
    }
}
