//! `ltmc push`: uploads an agent, from its crate's directory (built first) or from a component.

use std::path::PathBuf;

use ltmc_model::agent::AgentRef;
use ltmc_model::{AgentName, Capability};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use reqwest::multipart::{Form, Part};

use super::{Context, agent, build, grant, subscriptions, text};
use crate::client::encode;
use crate::exit::{Exit, Problem};
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An agent's crate, which is built first, or a component
    #[arg(default_value = ".", value_name = "DIR|F.wasm")]
    what: PathBuf,
    /// The name to call it by [default: the manifest's]
    #[arg(long)]
    name: Option<AgentName>,
    /// Its manifest, as JSON, in the place of the one inside the component: {"manifest": 1, "asks": [...]}
    #[arg(long, value_name = "F.json")]
    manifest: Option<PathBuf>,
    /// What to grant it: `asked` for everything it asks for, or capabilities, one each time
    #[arg(long, value_name = "asked|CAP")]
    grant: Vec<Grant>,
    /// Let it be woken by the events that its manifest asks for
    #[arg(long)]
    subscribe: bool,
    #[command(flatten)]
    rule: grant::Rule,
}

/// What is to be granted with a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grant {
    /// All it asks for.
    Asked,
    /// This one.
    One(Capability),
}

impl std::str::FromStr for Grant {
    type Err = ltmc_model::capability::InvalidCapability;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "asked" { Ok(Self::Asked) } else { text.parse().map(Self::One) }
    }
}

impl Grant {
    /// What these grant to one that asks for `asks`.
    pub(crate) fn resolve(grants: &[Self], asks: &[Capability]) -> Vec<Capability> {
        let mut all: Vec<Capability> = Vec::new();
        for grant in grants {
            match grant {
                Self::Asked => all.extend(asks.iter().cloned()),
                Self::One(capability) => all.push(capability.clone()),
            }
        }
        all.sort();
        all.dedup();
        all
    }
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let component = build::component(&args.what)?;
    let bytes = std::fs::read(&component)
        .map_err(|e| Problem::usage(format!("{} cannot be read: {e}", component.display())))?;
    let name = match args.name {
        Some(name) => name,
        None => build::name_of(&component, &bytes)?,
    };
    let client = context.client("default")?;
    let size = bytesize::ByteSize(bytes.len() as u64);
    let progress = ui::Progress::start(format!("Uploading {name} ({size}); the host compiles it"));
    let path = format!("/v1/agents/{}", encode(name.as_str()));
    let request = client.request(Method::PUT, &path);
    let request = match &args.manifest {
        None => request.header(CONTENT_TYPE, "application/wasm").body(bytes),
        Some(file) => {
            let manifest =
                std::fs::read(file).map_err(|e| Problem::usage(format!("{} cannot be read: {e}", file.display())))?;
            let form = Form::new().part("component", Part::bytes(bytes)).part("manifest", Part::bytes(manifest));
            request.multipart(form)
        }
    };
    let pushed = client.send(request).await;
    drop(progress);
    let pushed = pushed?;
    let new = pushed.status == reqwest::StatusCode::CREATED;
    let mut shown = pushed.json()?;
    let grants_of = shown["grants_of"].as_str().map(str::to_owned);
    if !args.grant.is_empty() {
        let asks: Vec<Capability> =
            shown.get("asks").cloned().map(serde_json::from_value).transpose()?.unwrap_or_default();
        // To what was pushed here, and not to what somebody else pushes meanwhile.
        let version = AgentRef { name, digest: Some(text(&shown, "digest").parse()?) };
        let wanted = Grant::resolve(&args.grant, &asks);
        grant::add(&client, &version, &wanted, args.rule).await.map_err(|e| not_granted(&version, &wanted, &e))?;
        shown = client.get(&format!("/v1/agents/{}", encode(&version.to_string()))).await?;
    }
    let asks_to_be_woken = shown["subscriptions"].as_array().is_some_and(|asked| !asked.is_empty());
    let accepted = match args.subscribe {
        true => subscriptions::accept(&client, text(&shown, "name")).await?,
        false => Vec::new(),
    };
    if context.json {
        ui::json(&shown);
        return Ok(());
    }
    agent::print(&shown);
    ui::note(if new { "Pushed." } else { "The host had this version already." });
    if let Some(before) = grants_of {
        ui::note(format!("It took over the grants of {before}: they were given with the rule same-asks."));
    }
    agent::note_withheld(&shown);
    match accepted.as_slice() {
        [] if asks_to_be_woken => ui::note(format!(
            "It asks to be woken by events. To accept that: ltmc subscriptions accept {}",
            text(&shown, "name")
        )),
        [] => {}
        names => ui::note(format!("It is woken by {}.", names.join(", "))),
    }
    let list =
        |field: &str| shown[field].as_array().into_iter().flatten().filter_map(|c| c.as_str()).collect::<Vec<_>>();
    // To grant what the ceiling withholds would change nothing.
    let (withheld, mut missing) = (list("withheld"), list("missing"));
    missing.retain(|capability| !withheld.contains(capability));
    if !missing.is_empty() {
        ui::note(format!(
            "It asks for what it was not granted. To grant it: ltmc grant add {} {}",
            text(&shown, "name"),
            missing.join(" ")
        ));
    }
    Ok(())
}

/// The agent is there, and may do nothing.
fn not_granted(version: &AgentRef, wanted: &[Capability], error: &anyhow::Error) -> Problem {
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Problem::new(Exit::InPart, "not-granted", format!("pushed {version}, but not granted: {error:#}"))
        .help(format!("a key of the role admin may: ltmc grant add {version} {}", wanted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_is_everything_it_asks_for_and_nothing_twice() {
        let asks: Vec<Capability> = ["log", "memory:read:agent"].map(|c| c.parse().unwrap()).into();
        let grants: Vec<Grant> = ["asked", "log", "call:b"].map(|g| g.parse().unwrap()).into();
        let all: Vec<String> = Grant::resolve(&grants, &asks).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["log", "memory:read:agent", "call:b"]);
        assert!("all".parse::<Grant>().is_err());
    }
}
