use std::path::Path;

use ltmc::testing::Host;
use ltmc::{FromPayload as _, Payload};
use read_docs::Bounds;

use super::*;

fn host() -> Host {
    Host::new().grant("recall:read").grant("graph:read")
}

fn section(host: &Host, file: &str, heading: &str, text: &str) {
    let id = format!("{file}#{heading}");
    let metadata = [("kind", "section"), ("file", file), ("heading", heading), ("line", "3")];
    host.remember(&id, &format!("{heading}\n\n{text}"), &metadata);
}

fn files(reply: &Reply) -> Vec<&str> {
    reply.answers.iter().map(|answer| answer.file.as_str()).collect()
}

#[test]
fn passages_come_with_their_place() {
    let host = host();
    section(&host, "docs/retry.md", "Retries", "Retries are bounded by attempts.\n\nBack-off doubles.");
    section(&host, "docs/keys.md", "Keys", "A key is revoked at once.");
    host.remember("somebody else's note", "how are retries bounded?", &[]);
    host.relate("docs/retry.md#Retries", "links-to", "docs/errors.md#codes");
    host.relate("docs/index.md", "links-to", "docs/retry.md");
    let reply = host.call::<AnswerQuestion>(Question("how are retries bounded?".into())).unwrap().0;
    assert_eq!(files(&reply), ["docs/retry.md"]);
    let first = &reply.answers[0];
    assert_eq!((first.heading.as_str(), first.line), ("Retries", 3));
    assert_eq!(first.passage, "Retries are bounded by attempts.\n\nBack-off doubles.");
    assert_eq!(first.see_also, ["docs/errors.md", "docs/index.md"]);
    let expected = "\
# `how are retries bounded?`

## 1. `docs/retry.md:3` Retries

> Retries are bounded by attempts.
>
> Back-off doubles.

See also `docs/errors.md`, `docs/index.md`
";
    assert_eq!(reply.markdown, expected);
}

#[test]
fn a_document_that_the_others_link_to_gains_a_little() {
    let host = host();
    section(&host, "docs/a.md", "A", "one two three");
    section(&host, "docs/b.md", "B", "one two four");
    section(&host, "docs/c.md", "C", "one two five");
    let question = Question("one two".into());
    let before = host.call::<AnswerQuestion>(question.clone()).unwrap().0;
    assert_eq!(files(&before), ["docs/a.md", "docs/b.md", "docs/c.md"]);
    host.relate("docs/a.md#A", "links-to", "docs/c.md#C");
    host.relate("docs/b.md#B", "links-to", "docs/c.md");
    host.relate("docs/c.md#C", "links-to", "docs/c.md");
    let after = host.call::<AnswerQuestion>(question).unwrap().0;
    assert_eq!(files(&after), ["docs/c.md", "docs/a.md", "docs/b.md"]);
    let gained = after.answers[0].score - before.answers[2].score;
    assert!((gained - 2.0 * LINK).abs() < 1e-6, "{gained}");
    assert!(after.answers[0].see_also.iter().all(|file| file != "docs/c.md"));
}

#[test]
fn what_has_nothing_to_do_with_it_is_no_answer() {
    let reply = host().call::<AnswerQuestion>(Question("anything?".into())).unwrap().0;
    assert_eq!(reply.markdown, "# `anything?`\n\nNothing that was read has to do with it.\n");
    let host = host();
    section(&host, "docs/a.md", "A", "bread and butter");
    assert_eq!(host.call::<AnswerQuestion>(Question("quantum".into())).unwrap().0.answers, []);
}

#[test]
fn a_long_passage_is_cut_and_what_is_hostile_stays_in_its_quote() {
    let host = host();
    let lines: Vec<String> = (0..30).map(|n| format!("word {n}")).collect();
    let text = format!("```\n\u{1b}[31m word\n{}\n{}", "word ".repeat(400), lines.join("\n"));
    section(&host, "docs/a.md", "[A](x) `b`", &text);
    let reply = host.call::<AnswerQuestion>(Question("word `\n# x\u{7}".into())).unwrap().0;
    assert!(
        reply.markdown.starts_with("# `word ' # x\\u{7}`\n\n## 1. `docs/a.md:3` \\[A\\](x) \\`b\\`\n\n> ```\n"),
        "{}",
        reply.markdown
    );
    assert!(reply.markdown.ends_with("\n> …\n"), "{}", reply.markdown);
    assert!(!reply.markdown.contains('\u{1b}') && reply.markdown.lines().all(|line| line.chars().count() < 700));
    assert_eq!(reply.markdown.lines().filter(|line| line.starts_with('>')).count(), 11);
}

#[test]
fn a_question_is_json_or_text() {
    let read = |content_type: &str, bytes: &str| Question::from_payload(Payload::new(content_type, bytes));
    assert_eq!(read("application/json", r#"{"question": " why? "}"#), Ok(Question("why?".into())));
    assert_eq!(read("text/plain; charset=utf-8", "why?\n"), Ok(Question("why?".into())));
    assert_eq!(read("application/octet-stream", "42"), Ok(Question("42".into())));
    for (content_type, bytes) in
        [("application/json", "[1]"), ("application/json", "{}"), ("text/plain", " \n"), ("", "")]
    {
        assert_eq!(read(content_type, bytes).unwrap_err().code, "bad-input", "{bytes}");
    }
    assert_eq!(read("text/plain", &"x".repeat(9_000)).unwrap_err().code, "bad-input");
    assert_eq!(Question::from_payload(Payload::new("text/plain", b"\xff".to_vec())).unwrap_err().code, "bad-input");
}

#[test]
fn without_a_grant_it_says_which() {
    let denied = Host::new().call::<AnswerQuestion>(Question("why?".into())).unwrap_err();
    assert!(denied.code == "access-denied" && denied.message.contains("recall:read"), "{denied}");
}

/// Both agents, on this repository's own documents.
#[test]
fn how_do_i_add_a_store() {
    let host =
        ["recall:read", "recall:write", "graph:read", "graph:write", "memory:read:agent", "memory:write:agent", "log"]
            .iter()
            .fold(Host::new(), |host, capability| host.grant(capability));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    host.within(|| read_docs::read(&docs, &Bounds::default())).unwrap();
    let reply = host.call::<AnswerQuestion>(Question("how do I add a store?".into())).unwrap().0;
    assert_eq!(files(&reply)[0], "docs/add-a-store.md");
    assert!(!reply.answers[0].passage.starts_with("Add a store"), "{}", reply.answers[0].passage);
}
