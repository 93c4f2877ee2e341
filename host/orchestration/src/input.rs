//! A step's input: what the one before gave, with the constants and picks of its `with`.
//!
//! Invariants: a source is read once, whatever is picked from it, and nothing is written beyond [`MAX_BUILT`]: a small document
//! makes no large input, and costs no more than its sources are long. What is picked is passed on as it is written in the source.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Pick, Source, StepName, Template, With};
use ltmc_model::{Payload, StepPath};
use ltmc_tenancy::compute::LARGE;
use ltmc_tenancy::{Compute, Error};

use crate::patterns::Input;
use crate::picked::{Bounded, Json, Picked, name_of};
use crate::plan::Plan;

/// The largest input that is built, in bytes: the same as a client may send.
const MAX_BUILT: usize = 8 << 20;
/// How many fields an object may have that others are laid over.
const MAX_FIELDS: usize = 100_000;

/// What the step at `step` works on, where `input` is what comes before it.
pub(crate) async fn build(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    step: &StepPath,
    input: &Input,
) -> Result<Payload, Failure> {
    let planned = &plan.step(step)?.step;
    let before = before(log, input);
    let with = match &planned.with {
        None => return before,
        // Passed on whole, and as what it is.
        Some(With::Pick(pick)) if pick.path.is_empty() => return source(plan, log, &pick.source),
        Some(with) => with,
    };
    let mut sources = BTreeMap::new();
    for pick in picks(with) {
        if !sources.contains_key(&pick.source) {
            sources.insert(pick.source.clone(), source(plan, log, &pick.source)?);
        }
    }
    let given = Given { before: before?, sources };
    // Larger ones are looked through on a thread beside those that serve.
    if given.bytes() <= LARGE {
        return given.build(&planned.id, with);
    }
    let (plan, step) = (plan.clone(), step.clone());
    let build = move || {
        let planned = &plan.step(&step)?.step;
        match &planned.with {
            Some(with) => given.build(&planned.id, with),
            None => Ok(given.before),
        }
    };
    compute.run(log.tenant(), build).await.map_err(not_computed)?
}

/// Why something was not computed, as a step's failure.
pub(crate) fn not_computed(error: Error) -> Failure {
    match error {
        Error::Busy { message, .. } => Failure::new(Code::Unavailable, message).retryable(),
        other => Failure::new(Code::Internal, other.to_string()),
    }
}

/// What is passed on where there is no `with`.
pub(crate) fn before(log: &RunLog, input: &Input) -> Result<Payload, Failure> {
    match input {
        Input::Run => Ok(log.started().input.clone()),
        Input::Output(step) => output(log, step),
    }
}

/// What a pick picks from, whole.
fn source(plan: &Plan, log: &RunLog, source: &Source) -> Result<Payload, Failure> {
    match source {
        Source::Input => Ok(log.started().input.clone()),
        Source::Step(name) => {
            let path = plan.path(name);
            let path = path.ok_or_else(|| Failure::new(Code::Internal, format!("the plan has no step `{name}`")))?;
            output(log, path)
        }
    }
}

fn output(log: &RunLog, step: &StepPath) -> Result<Payload, Failure> {
    let output = log.read(|history| history.output(step).cloned());
    output.ok_or_else(|| Failure::new(Code::Internal, format!("step {step} has given nothing yet")))
}

/// Every pick, in the order of the document.
fn picks(with: &With) -> Vec<&Pick> {
    fn collect<'a>(template: &'a Template, into: &mut Vec<&'a Pick>) {
        match template {
            Template::Constant(_) => {}
            Template::Pick(pick) => into.push(pick),
            Template::Object(fields) => fields.iter().for_each(|(_, value)| collect(value, into)),
            Template::Array(items) => items.iter().for_each(|item| collect(item, into)),
        }
    }
    let mut found = Vec::new();
    match with {
        With::Pick(pick) => found.push(pick),
        With::Fields(fields) => fields.iter().for_each(|(_, value)| collect(value, &mut found)),
    }
    found
}

/// What an input is built from.
struct Given {
    before: Payload,
    sources: BTreeMap<Source, Payload>,
}

impl Given {
    fn bytes(&self) -> usize {
        self.before.bytes.len() + self.sources.values().map(|source| source.bytes.len()).sum::<usize>()
    }

    fn build(&self, name: &StepName, with: &With) -> Result<Payload, Failure> {
        let wrong = |message: String| Failure::new(Code::BadStep, message);
        let (picks, mut texts) = (picks(with), BTreeMap::new());
        for pick in &picks {
            if !texts.contains_key(&pick.source) {
                let text = Json::of(&self.sources[&pick.source], MAX_BUILT);
                let text = text.map_err(|why| wrong(format!("`{pick}` picks from what is {why}")))?;
                texts.insert(&pick.source, text.ok_or_else(|| too_large(name))?);
            }
        }
        let found = texts.iter().map(|(source, text)| {
            let of_it = picks.iter().copied().filter(|pick| pick.source == **source);
            (*source, Picked::from(text, of_it))
        });
        let mut writer = Writer { found: found.collect(), out: Bounded::new(MAX_BUILT), step: name };
        match with {
            With::Pick(pick) => writer.pick(pick)?,
            With::Fields(fields) => {
                // Fields go over those of an object; anything else is left behind.
                let before = Json::of(&self.before, MAX_BUILT).ok().flatten();
                let below = match &before {
                    Some(before) => before.fields(MAX_FIELDS).map_err(|why| {
                        wrong(format!("the input of step `{name}` lays fields over {why}: pick what is wanted of it"))
                    })?,
                    None => None,
                };
                writer.overlaid(&below.unwrap_or_default(), fields)?;
            }
        }
        let bytes = writer.out.into_bytes().into();
        Ok(Payload { content_type: Payload::JSON.into(), bytes })
    }
}

/// What an input is written with.
struct Writer<'a> {
    found: BTreeMap<&'a Source, Picked<'a>>,
    out: Bounded,
    step: &'a StepName,
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
        let missing = || Failure::new(Code::Internal, format!("`{pick}` was not looked for"));
        let found = self.found.get(&pick.source).ok_or_else(missing)?;
        let text = found.get(pick).map_err(|why| Failure::new(Code::BadStep, why))?;
        self.out.write_all(text.as_bytes()).map_err(|_| too_large(self.step))
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(|_| too_large(self.step))
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|_| too_large(self.step))
    }
}

fn too_large(step: &StepName) -> Failure {
    let message = format!(
        "the input of step `{step}` would have more than {MAX_BUILT} bytes, the most that are built: pick less, or what is \
         smaller"
    );
    Failure::new(Code::BadStep, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(yaml: &str) -> With {
        let source = format!("name: w\nflow: {{agent: a, with: {yaml}}}");
        let document = ltmc_model::workflow::Document::parse(&source, None).unwrap();
        document.steps()[0].with.clone().unwrap()
    }

    fn built(before: &str, input: Payload, with: &With) -> Result<String, Failure> {
        let before = Payload { content_type: Payload::JSON.into(), bytes: before.to_owned().into() };
        let given = Given { before, sources: BTreeMap::from([(Source::Input, input)]) };
        let built = given.build(&"a".parse().unwrap(), with)?;
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
