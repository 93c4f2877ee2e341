//! What a document is about, in words: by which one is found again that is like it.

use std::fmt::Write as _;

use super::{Document, Does};

/// The longest gist, in bytes.
const MAX: usize = 2_000;

impl Document {
    /// Its name, and what its nodes are called, need, ask and start: identifiers in words, nothing twice; the first so many bytes.
    pub fn gist(&self) -> String {
        let mut gist = words(self.name.as_str());
        let mut said = std::collections::BTreeSet::new();
        for node in self.nodes() {
            let id = node.id.as_ref().map(|id| words(id.as_str()));
            let does = match &node.does {
                Does::Agent(agent) => Some(words(agent.name.as_str())),
                Does::Need(needed) => Some(needed.text.clone()),
                Does::Workflow(sub) => Some(words(sub.workflow.as_str())),
                Does::Ask(ask) => Some(ask.title.clone()),
                Does::Emit(emit) => Some(words(emit.topic.as_str())),
                _ => None,
            };
            for text in id.into_iter().chain(does) {
                if gist.len() + text.len() + 2 > MAX {
                    return gist;
                }
                if said.insert(text.clone()) {
                    let _ = write!(gist, "; {text}");
                }
            }
        }
        gist
    }
}

/// An identifier as words.
pub fn words(name: &str) -> String {
    name.replace(['-', '_', '.'], " ")
}

#[cfg(test)]
mod tests {
    use crate::workflow::Document;

    #[test]
    fn a_gist_says_what_a_document_is_about_once() {
        let source = "name: review-contract\nflow:\n  sequence:\n    - agent: read-pdf\n    - {need: summarise a contract, id: sum}\n    \
                      - {agent: read-pdf, id: again}\n    - ask: {title: \"Sign it?\", of: admin}\n      id: sign";
        let document = Document::parse(source, None).unwrap();
        assert_eq!(document.gist(), "review contract; read pdf; sum; summarise a contract; again; sign; Sign it?");
    }

    #[test]
    fn a_gist_is_bounded() {
        let steps: Vec<String> = (0..400).map(|n| format!("{{agent: agent-number-{n}}}")).collect();
        let source = format!("name: long\nflow: {{sequence: [{}]}}", steps.join(", "));
        let gist = Document::parse(&source, None).unwrap().gist();
        assert!(gist.len() <= super::MAX && gist.len() > super::MAX - 100, "{}", gist.len());
    }
}
