//! `ltmc approvals`: what runs ask people, and answers to it.

use console::style;
use ltmc_model::question::Token;
use serde_json::{Value, json};

use super::{Context, text};
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List open questions that this key may answer, the oldest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show one: what is asked, what there is to be seen, what an answer has to be; or what was answered, by whom, and when
    Show {
        /// The question's token
        token: Token,
    },
    /// Answer one: the first answer counts, and the run goes on with it
    #[command(group = clap::ArgGroup::new("what").required(true), override_usage = "ltmc approvals answer <TOKEN> <ANSWER|--yes|--no>")]
    Answer {
        /// The question's token
        token: Token,
        /// The answer, in JSON: true, 7, "a text", '{"a": 1}'
        #[arg(group = "what")]
        answer: Option<String>,
        /// The same as `true`
        #[arg(long, group = "what")]
        yes: bool,
        /// The same as `false`
        #[arg(long, group = "what")]
        no: bool,
        /// What is said besides; it stands in the run's journal
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    match command {
        Command::List { limit } => {
            let found = client.list("/v1/approvals", &[], limit).await?;
            if context.json {
                found.iter().for_each(ui::json);
                return Ok(());
            }
            let mut table = ui::Table::new(&["token", "of", "asked", "run", "title"]);
            for one in &found {
                table.row(["token", "of", "asked_at", "run", "title"].map(|field| text(one, field)));
            }
            table.print("Nobody is asked anything.");
            Ok(())
        }
        Command::Show { token } => {
            let shown = client.get(&format!("/v1/approvals/{token}")).await?;
            if context.json {
                ui::json(&shown);
            } else {
                show(&shown);
            }
            Ok(())
        }
        Command::Answer { token, answer, yes, no: _, comment } => {
            let answer = match answer {
                Some(given) => serde_json::from_str(&given).map_err(|_| {
                    Problem::usage(format!("`{given}` is not JSON")).help("a text stands in quotes: '\"like this\"'")
                })?,
                None => Value::Bool(yes),
            };
            let mut body = json!({ "answer": answer });
            if let Some(comment) = comment {
                body["comment"] = comment.into();
            }
            client.post(&format!("/v1/approvals/{token}"), Some(&body)).await?;
            ui::note("Answered: the run goes on.");
            Ok(())
        }
    }
}

fn show(asked: &Value) {
    ui::line(format!("{}  {}", style(ui::clean(text(asked, "title"))).bold(), text(asked, "state")));
    ui::line(format!("run {}, node {}, asked {}", text(asked, "run"), text(asked, "node"), text(asked, "asked_at")));
    let answered = &asked["answered"];
    if answered.is_object() {
        let answer = ui::clean(&ui::short(&answered["answer"].to_string(), 2_000));
        ui::line(format!("answered by {} at {}: {answer}", text(answered, "by"), text(answered, "at")));
        let comment = text(answered, "comment");
        comment.lines().for_each(|line| ui::line(format!("  {}", ui::clean(line))));
        return;
    }
    let until = text(asked, "until");
    let until = if until.is_empty() { String::new() } else { format!(", until {until}") };
    ui::line(format!("to be answered by `{}` or a larger role{until}", text(asked, "of")));
    if let Some(schema) = asked.get("schema") {
        ui::line(format!("the answer fits {}", ui::clean(&ui::short(&schema.to_string(), 2_000))));
    }
    let shown = &asked["show"];
    let what = match (shown.get("text").and_then(Value::as_str), shown.get("json")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(json)) => readable(json),
        (None, None) => return,
    };
    ui::line("");
    what.lines().for_each(|line| ui::line(ui::clean(line)));
}

/// JSON as people read it: a text as it is, and each field that is one of several lines below its name.
fn readable(json: &Value) -> String {
    let pretty = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    match json {
        Value::Object(fields)
            if fields.values().any(|value| value.as_str().is_some_and(|text| text.contains('\n'))) =>
        {
            let shown = |(name, value): (&String, &Value)| {
                let value = pretty(value);
                if value.contains('\n') {
                    format!("{name}:\n{}\n", value.trim_end())
                } else {
                    format!("{name}: {value}\n")
                }
            };
            fields.iter().map(shown).collect::<Vec<_>>().concat()
        }
        value => pretty(value),
    }
}
