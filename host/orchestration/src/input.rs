//! A step's input: what the one before gave, with the constants and picks of its `with`.
//!
//! Invariants: a source is read once, whatever is picked from it, and nothing is written beyond [`MAX_BUILT`]: a small document
//! makes no large input, and costs no more than its sources are long. What is picked is passed on as it is written in the source.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_journal::{History, RunLog};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Does, Pick, Source, StepName, Template, With};
use ltmc_model::{Payload, StepPath};
use ltmc_tenancy::compute::LARGE;
use ltmc_tenancy::{Compute, Error};
use serde_json::json;

use crate::patterns::Input;
use crate::picked::{Bounded, Json, Picked, name_of};
use crate::plan::{Plan, Scope};
use crate::{aggregate, conflict, turns};

/// The largest input that is built, in bytes: the same as a client may send.
pub(crate) const MAX_BUILT: usize = 8 << 20;
/// How many fields an object may have that others are laid over.
const MAX_FIELDS: usize = 100_000;

/// What an input comes to.
pub(crate) fn resolve<'a>(
    compute: &'a Compute,
    plan: &'a Arc<Plan>,
    log: &'a RunLog,
    input: &'a Input,
) -> BoxFuture<'a, Result<Payload, Failure>> {
    match input {
        Input::With { node, input } => build(compute, plan, log, node, input).boxed(),
        Input::Run => std::future::ready(Ok(log.started().input.clone())).boxed(),
        Input::Output(step) => std::future::ready(output(log, step)).boxed(),
        Input::Item { map, index } => std::future::ready(item(log, map, *index)).boxed(),
        Input::Undone(node) => undone(compute, plan, log, node).boxed(),
        Input::Branches { node, gave } => aggregate::branches(compute, plan, log, node, gave).boxed(),
        Input::Conflict { node, by, number } => conflict::given(compute, plan, log, node, *by, *number).boxed(),
        Input::Turns { debate, before, input } => turns(compute, plan, log, debate, *before, input).boxed(),
    }
}

/// What who speaks in a debate is told.
async fn turns(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    at: &StepPath,
    before: u32,
    input: &Input,
) -> Result<Payload, Failure> {
    let (node, _) = plan.node(at)?;
    let Does::Debate(debate) = &node.does else {
        return Err(Failure::new(Code::Internal, format!("the plan has no debate at {at}")));
    };
    let input = resolve(compute, plan, log, input).await?;
    let (debate, said) = (debate.clone(), turns::said(log, debate, at, before));
    computed(compute, log, move || turns::given(&debate, &input, said)).await?
}

/// What the node at `at` works on, where `input` is what comes before it.
pub(crate) async fn build(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    at: &StepPath,
    input: &Input,
) -> Result<Payload, Failure> {
    let (node, scope) = plan.node(at)?;
    let with = match &node.with {
        None => return resolve(compute, plan, log, input).await,
        Some(With::Pick(pick)) if pick.path.is_empty() => return whole(compute, plan, log, &scope, pick).await,
        Some(with) => with,
    };
    let sources = sources(compute, plan, log, &scope, picks(with)).await?;
    let given = Given { before: resolve(compute, plan, log, input).await?, sources };
    let name = node.id.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
    // Larger ones are looked through on a thread beside those that serve.
    if given.bytes() <= LARGE {
        return given.build(&name, with);
    }
    let (plan, at) = (plan.clone(), at.clone());
    let build = move || match &plan.node(&at)?.0.with {
        Some(with) => given.build(&name, with),
        None => Ok(given.before),
    };
    computed(compute, log, build).await?
}

/// What a template says, for the node at `at`.
pub(crate) async fn filled(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    at: &StepPath,
    template: &Template,
) -> Result<Payload, Failure> {
    let (node, scope) = plan.node(at)?;
    let picked = match template {
        Template::Constant(value) => return Ok(Payload::json(value)),
        Template::Pick(pick) if pick.path.is_empty() => return whole(compute, plan, log, &scope, pick).await,
        template => in_template(template),
    };
    let sources = sources(compute, plan, log, &scope, picked).await?;
    let given = Given { before: Payload::default(), sources };
    let name = node.id.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
    let template = template.clone();
    let fill = move || given.write(&name, &in_template(&template), |_, writer| writer.template(&template));
    computed(compute, log, fill).await?
}

/// What is passed on whole, and as what it is.
async fn whole(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    scope: &Scope,
    pick: &Pick,
) -> Result<Payload, Failure> {
    let found = source(compute, plan, log, scope, &pick.source).await?;
    let or_else = || pick.or_else.as_ref().map(Payload::json);
    found.or_else(or_else).ok_or_else(|| gave_nothing(pick))
}

/// Does what may take long for a run's tenant, on a thread beside those that serve.
pub(crate) async fn computed<T: Send + 'static>(
    compute: &Compute,
    log: &RunLog,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    compute.run(log.tenant(), work).await.map_err(not_computed)
}

/// Why something was not computed, as a step's failure.
pub(crate) fn not_computed(error: Error) -> Failure {
    match error {
        Error::Busy { message, .. } => Failure::new(Code::Unavailable, message).retryable(),
        other => Failure::new(Code::Internal, other.to_string()),
    }
}

/// What picks pick from, whole; none: there is nothing.
pub(crate) type Sources = BTreeMap<Source, Option<Payload>>;

pub(crate) async fn sources(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    scope: &Scope,
    picks: Vec<&Pick>,
) -> Result<Sources, Failure> {
    let mut sources = Sources::new();
    for pick in picks {
        if !sources.contains_key(&pick.source) {
            sources.insert(pick.source.clone(), source(compute, plan, log, scope, &pick.source).await?);
        }
    }
    Ok(sources)
}

/// What a pick picks from, whole; none: there is nothing.
async fn source(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    scope: &Scope,
    source: &Source,
) -> Result<Option<Payload>, Failure> {
    match (source, &scope.undone) {
        (Source::Given, Some(node)) => given(compute, plan, log, node).await.map(Some),
        _ => known(plan, log, scope, source),
    }
}

/// What a pick begins with, where that is there and has not to be built.
fn known(plan: &Plan, log: &RunLog, scope: &Scope, source: &Source) -> Result<Option<Payload>, Failure> {
    let number = |number: usize| Some(Payload::json(&number.into()));
    let around = |name: &Option<StepName>| match name {
        Some(_) => scope.maps.iter().rev().find(|(known, ..)| known == name),
        None => scope.maps.last(),
    };
    Ok(match source {
        Source::Input => Some(log.started().input.clone()),
        Source::Step(name) => {
            let path = plan.path(name, scope)?;
            log.read(|history| history.given(&path).cloned())
        }
        Source::Item(name) => around(name).map(|(_, map, index)| item(log, map, *index)).transpose()?,
        Source::ScheduledAt => {
            log.started().scheduled.as_ref().map(|scheduled| Payload::json(&scheduled.tick.to_string().into()))
        }
        Source::Index(name) => around(name).and_then(|(.., index)| number(*index)),
        Source::Round => scope.round.as_ref().and_then(|(_, round)| number(round + 1)),
        Source::Last => {
            let last = |(path, round): &(StepPath, usize)| log.read(|history| last(history, path, *round));
            let before = || scope.round.as_ref().and_then(last);
            let path = scope.last.clone().or_else(before);
            path.and_then(|path| log.read(|history| history.given(&path).cloned()))
        }
        // Whoever looks at one knows it.
        Source::Event => None,
        Source::Output => scope.undone.as_ref().and_then(|node| log.read(|history| history.output(node).cloned())),
        Source::Given => None,
        Source::Error => failure(log, scope).map(|failure| shown(&failure)),
        Source::Rejected => log.read(|history| history.step(scope.at.as_ref()?)?.rejected.as_ref().map(shown)),
    })
}

/// A failure as documents pick from it.
fn shown(failure: &Failure) -> Payload {
    let Failure { code, message, agent_code, step, .. } = failure;
    Payload::json(&json!({"code": code.as_str(), "message": message, "agent-code": agent_code, "step": step}))
}

/// How the node failed in whose place something is done, or why its work is undone.
fn failure(log: &RunLog, scope: &Scope) -> Option<Failure> {
    log.read(|history| match (&scope.failed, &scope.undone) {
        (Some(failed), _) => history.node(failed)?.failure.clone(),
        (None, Some(undone)) => {
            history.node(undone)?.compensation.as_ref()?.begun.as_ref().map(|begun| begun.failure.clone())
        }
        (None, None) => None,
    })
}

/// What a node gave whose work is undone, good or not; where it gave nothing, what it was given.
async fn undone(compute: &Compute, plan: &Arc<Plan>, log: &RunLog, node: &StepPath) -> Result<Payload, Failure> {
    match log.read(|history| history.output(node).cloned()) {
        Some(output) => Ok(output),
        None => given(compute, plan, log, node).await,
    }
}

/// What a node was given whose work is undone.
async fn given(compute: &Compute, plan: &Arc<Plan>, log: &RunLog, node: &StepPath) -> Result<Payload, Failure> {
    let registered = |history: &History| Some(history.node(node)?.compensation.as_ref()?.given.clone());
    let missing = || Failure::new(Code::Internal, format!("the journal does not say what {node} was given"));
    resolve(compute, plan, log, &log.read(registered).ok_or_else(missing)?).await
}

/// Whose output a loop's rounds before one gave last.
pub(crate) fn last(history: &History, path: &StepPath, round: usize) -> Option<StepPath> {
    history.node(path)?.rounds.given_before(round).cloned()
}

fn item(log: &RunLog, map: &StepPath, index: usize) -> Result<Payload, Failure> {
    let item = log.read(|history| history.node(map)?.items.as_ref()?.get(index).cloned());
    item.ok_or_else(|| Failure::new(Code::Internal, format!("map {map} has no item {index}")))
}

pub(crate) fn output(log: &RunLog, step: &StepPath) -> Result<Payload, Failure> {
    let output = log.read(|history| history.output(step).cloned());
    output.ok_or_else(|| Failure::new(Code::Internal, format!("step {step} has given nothing yet")))
}

fn gave_nothing(pick: &Pick) -> Failure {
    let whole = Pick { path: Vec::new(), ..pick.clone() };
    let message = format!(
        "`{pick}` is not there: there is no `{whole}` in this run; `{{pick: {pick}, else: …}}` says what is taken then"
    );
    Failure::new(Code::BadStep, message)
}

/// Every pick, in the order of the document.
pub(crate) fn picks(with: &With) -> Vec<&Pick> {
    match with {
        With::Pick(pick) => vec![pick],
        With::Fields(fields) => fields.iter().flat_map(|(_, value)| in_template(value)).collect(),
    }
}

fn in_template(template: &Template) -> Vec<&Pick> {
    fn collect<'a>(template: &'a Template, into: &mut Vec<&'a Pick>) {
        match template {
            Template::Constant(_) => {}
            Template::Pick(pick) => into.push(pick),
            Template::Object(fields) => fields.iter().for_each(|(_, value)| collect(value, into)),
            Template::Array(items) => items.iter().for_each(|item| collect(item, into)),
        }
    }
    let mut found = Vec::new();
    collect(template, &mut found);
    found
}

/// How many bytes there are to be looked through.
pub(crate) fn bytes(sources: &Sources) -> usize {
    sources.values().flatten().map(|source| source.bytes.len()).sum()
}

/// What an input is built from.
struct Given {
    before: Payload,
    sources: Sources,
}

impl Given {
    fn bytes(&self) -> usize {
        self.before.bytes.len() + bytes(&self.sources)
    }

    fn build(&self, name: &str, with: &With) -> Result<Payload, Failure> {
        self.write(name, &picks(with), |given, writer| match with {
            With::Pick(pick) => writer.pick(pick),
            With::Fields(fields) => {
                // Fields go over those of an object; anything else is left behind.
                let before = Json::of(&given.before, MAX_BUILT).ok().flatten();
                let below = match &before {
                    Some(before) => before.fields(MAX_FIELDS).map_err(|why| {
                        let message =
                            format!("the input of step `{name}` lays fields over {why}: pick what is wanted of it");
                        Failure::new(Code::BadStep, message)
                    })?,
                    None => None,
                };
                writer.overlaid(&below.unwrap_or_default(), fields)
            }
        })
    }

    /// What is written where these picks are found.
    fn write(
        &self,
        name: &str,
        picks: &[&Pick],
        write: impl FnOnce(&Self, &mut Writer<'_>) -> Result<(), Failure>,
    ) -> Result<Payload, Failure> {
        let wrong = |message: String| Failure::new(Code::BadStep, message);
        let mut texts = BTreeMap::new();
        for pick in picks {
            let Some(payload) = self.sources.get(&pick.source).and_then(Option::as_ref) else {
                if pick.or_else.is_none() {
                    return Err(gave_nothing(pick));
                }
                continue;
            };
            if !texts.contains_key(&pick.source) {
                match Json::of(payload, MAX_BUILT) {
                    Ok(text) => drop(texts.insert(&pick.source, text.ok_or_else(|| too_large(name))?)),
                    // Of what cannot be read nothing is there.
                    Err(_) if pick.or_else.is_some() => {}
                    Err(why) => return Err(wrong(format!("`{pick}` picks from what is {why}"))),
                }
            }
        }
        let found = texts.iter().map(|(source, text)| {
            let of_it = picks.iter().copied().filter(|pick| pick.source == **source);
            (*source, Picked::from(text, of_it))
        });
        let mut writer = Writer { found: found.collect(), out: Bounded::new(MAX_BUILT), step: name };
        write(self, &mut writer)?;
        let bytes = writer.out.into_bytes().into();
        Ok(Payload { content_type: Payload::JSON.into(), bytes })
    }
}

/// What an input is written with.
struct Writer<'a> {
    found: BTreeMap<&'a Source, Picked<'a>>,
    out: Bounded,
    step: &'a str,
}

impl Writer<'_> {
    fn overlaid(&mut self, below: &[(&str, &str)], fields: &[(String, Template)]) -> Result<(), Failure> {
        let mut over: BTreeMap<&str, &Template> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let mut is_first = true;
        self.text("{")?;
        for (name, value) in below {
            self.text(if std::mem::take(&mut is_first) { "" } else { "," })?;
            self.text(name)?;
            self.text(":")?;
            match over.remove(&*name_of(name)) {
                Some(template) => self.template(template)?,
                None => self.text(value)?,
            }
        }
        for (name, _) in fields {
            if let Some(template) = over.remove(name.as_str()) {
                self.text(if std::mem::take(&mut is_first) { "" } else { "," })?;
                self.field(name, template)?;
            }
        }
        self.text("}")
    }

    fn template(&mut self, template: &Template) -> Result<(), Failure> {
        match template {
            Template::Constant(value) => self.json(value),
            Template::Pick(pick) => self.pick(pick),
            Template::Object(fields) => {
                self.text("{")?;
                for (number, (name, value)) in fields.iter().enumerate() {
                    self.text(if number == 0 { "" } else { "," })?;
                    self.field(name, value)?;
                }
                self.text("}")
            }
            Template::Array(items) => {
                self.text("[")?;
                for (number, item) in items.iter().enumerate() {
                    self.text(if number == 0 { "" } else { "," })?;
                    self.template(item)?;
                }
                self.text("]")
            }
        }
    }

    fn field(&mut self, name: &str, value: &Template) -> Result<(), Failure> {
        self.json(name)?;
        self.text(":")?;
        self.template(value)
    }

    fn pick(&mut self, pick: &Pick) -> Result<(), Failure> {
        let found = self.found.get(&pick.source).ok_or_else(|| gave_nothing(pick));
        let text = found.and_then(|found| found.get(pick).map_err(|why| Failure::new(Code::BadStep, why)));
        let text = match (text, &pick.or_else) {
            (Ok(text), _) => text,
            (Err(_), Some(or_else)) => return self.json(or_else),
            (Err(failure), None) => return Err(failure),
        };
        self.out.write_all(text.as_bytes()).map_err(|_| too_large(self.step))
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(|_| too_large(self.step))
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|_| too_large(self.step))
    }
}

fn too_large(step: &str) -> Failure {
    let message = format!(
        "the input of step `{step}` would have more than {MAX_BUILT} bytes, the most that are built: pick less, or what is \
         smaller"
    );
    Failure::new(Code::BadStep, message)
}

#[cfg(test)]
mod tests {
    use ltmc_journal::runlog;
    use ltmc_model::journal::RunStarted;
    use ltmc_ports::testing::{ManualClock, MemoryRecord, sample};
    use ltmc_tenancy::Turns;

    use super::*;

    fn with(yaml: &str) -> With {
        let source = format!("name: w\nflow: {{agent: a, with: {yaml}}}");
        let document = ltmc_model::workflow::Document::parse(&source, None).unwrap();
        document.steps()[0].with.clone().unwrap()
    }

    fn built(before: &str, input: Payload, with: &With) -> Result<String, Failure> {
        let before = Payload { content_type: Payload::JSON.into(), bytes: before.to_owned().into() };
        let given = Given { before, sources: BTreeMap::from([(Source::Input, Some(input))]) };
        let built = given.build("a", with)?;
        Ok(String::from_utf8(built.bytes.to_vec()).unwrap())
    }

    fn json(text: &str) -> Payload {
        Payload { content_type: Payload::JSON.into(), bytes: text.to_owned().into() }
    }

    #[test]
    fn fields_go_over_those_of_an_object() {
        let with = with(r#"{b: $.input.x, d: [$.input.y, "$$", {e: 1, f: $.input}], "c": 2}"#);
        let input = json(r#"{"x": {"z" : 1.50}, "y": null}"#);
        assert_eq!(
            built(r#"{"a": [1, 2], "\u0062": 0, "a": 3}"#, input.clone(), &with).unwrap(),
            r#"{"a":3,"\u0062":{"z" : 1.50},"d":[null,"$",{"e":1,"f":{"x": {"z" : 1.50}, "y": null}}],"c":2}"#
        );
        let alone = built("[1]", input, &with).unwrap();
        assert!(alone.starts_with(r#"{"b":"#) && alone.ends_with(r#""c":2}"#), "{alone}");
        assert_eq!(built("{}", Payload::text("a\"b"), &self::with("{t: $.input}")).unwrap(), r#"{"t":"a\"b"}"#);
    }

    #[test]
    fn what_cannot_be_built_is_said_with_its_step() {
        let wrong = |input, yaml: &str| built("{}", input, &with(yaml)).unwrap_err().to_string();
        assert!(wrong(json("{"), "{t: $.input.a}").contains("`$.input.a` picks from what is not JSON"));
        assert!(wrong(json("{}"), "{t: $.input.a}").contains("`$.input.a` is not there: `$.input` is an empty object"));
        let many = format!("{{{}}}", (0..=MAX_FIELDS).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
        let error = built(&many, json("{}"), &with("{t: 1}")).unwrap_err().to_string();
        assert!(error.contains("step `a`") && error.contains("100000 fields"), "{error}");
    }

    /// With no turn left for what is computed, a large one waits and a small one does not.
    #[tokio::test]
    async fn what_is_large_is_built_beside_the_threads_that_serve() {
        let source = "name: w\nflow: {agent: a, with: {t: $.input}}";
        let document = ltmc_model::workflow::Document::parse(source, None).unwrap();
        let plan = Arc::new(Plan::of(&document));
        let acme = sample::tenant("acme");
        let log = |bytes: usize| {
            let clock = Arc::new(ManualClock::at(sample::at(0)));
            let ports = runlog::Ports { journal: MemoryRecord::new(), clock, sealing: Default::default() };
            let started = RunStarted { input: Payload::text("x".repeat(bytes)), ..sample::started(&acme) };
            RunLog::fresh(ports, acme.clone(), sample::run_id(1), started, None)
        };
        let turns = Turns::new(1, 8);
        let compute = Compute::new(turns.clone());
        let held = turns.take(&acme).await.unwrap();
        let (small, large, at) = (log(LARGE / 4), log(LARGE + 1), StepPath::root());
        let built = build(&compute, &plan, &small, &at, &Input::Run).await.unwrap();
        assert!(built.bytes.len() > LARGE / 4);
        let mut building = std::pin::pin!(build(&compute, &plan, &large, &at, &Input::Run));
        assert!(futures::poll!(&mut building).is_pending(), "it waits for its tenant's turn");
        drop(held);
        assert!(building.await.unwrap().bytes.len() > LARGE);
    }

    /// 100 times 8 MiB were 1.9 GB before anybody looked how much it was.
    #[test]
    fn a_small_document_makes_no_large_input() {
        let picks: Vec<String> = (0..100).map(|n| format!("f{n}: $.input")).collect();
        let with = with(&format!("{{{}}}", picks.join(", ")));
        let text = Payload::text("x".repeat(MAX_BUILT - 1_000));
        for input in [text, json(&format!("[{}]", "0,".repeat(1 << 21).trim_end_matches(',')))] {
            let before = peak();
            let error = built("{}", input, &with).unwrap_err();
            assert_eq!(error.code, Code::BadStep);
            assert!(error.message.contains("step `a`") && error.message.contains("8388608 bytes"), "{error}");
            let more = peak().saturating_sub(before);
            assert!(more < 64 << 20, "{more} bytes for an input that is not built");
        }
    }

    /// A source is read once: read for each of 1,500 picks, 8 MiB of JSON took more than 100 s.
    #[test]
    fn many_picks_read_their_source_once() {
        let items = MAX_BUILT / 16;
        let mut input = String::from("[");
        (0..items).for_each(|n| input.push_str(&format!("{{\"n\":{n:>8}}},")));
        input.truncate(input.len() - 1);
        input.push(']');
        let fields: Vec<String> = (0..1_500).map(|n| format!("f{n}: $.input.{}.n", items - 1 - n)).collect();
        let built = built("{}", json(&input), &with(&format!("{{{}}}", fields.join(", ")))).unwrap();
        let built: serde_json::Value = serde_json::from_str(&built).unwrap();
        assert!((0..1_500).all(|n| built[format!("f{n}")] == items - 1 - n));
    }

    /// The most memory this process has had, in bytes.
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}
