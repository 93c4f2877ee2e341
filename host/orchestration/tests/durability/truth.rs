//! What is true of everything that an attempt can change, read from the record: and how a test changes it beside all hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_model::delta::{Delta, Topic};
use ltmc_model::graph::{AsOf, Direction, FactFilter};
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::message::Channel;
use ltmc_model::recall::{Metadata, Note};
use ltmc_model::{Position, Revision};
use ltmc_ports::Changes;
use ltmc_ports::testing::sample;

use crate::guest::text;
use crate::host::{session, tenant};
use crate::records::AnyRecord;

/// What there is, whoever made it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    /// The session's memory, what all share, and what the worker has for itself: no key of one is one of another.
    pub(crate) memory: BTreeMap<String, String>,
    /// Facts that were ever told: subject, object, whether it holds.
    pub(crate) facts: Vec<(String, String, bool)>,
    /// Notes, and their texts.
    pub(crate) notes: Vec<(String, String)>,
    /// Messages: whose mailbox, kind, whether in anybody's hands, whether dead.
    pub(crate) mail: Vec<(String, String, bool, bool)>,
    /// Kinds of the events of `news`.
    pub(crate) published: Vec<String>,
}

pub(crate) async fn truth<R: AnyRecord>(record: &Arc<R>) -> Truth {
    let mut memory = BTreeMap::new();
    for drawer in [Drawer::Session(session()), Drawer::Global, Drawer::Agent("worker".parse().unwrap())] {
        let mut after = None;
        loop {
            let page = record.list(&tenant(), &drawer, "", after.as_deref(), 1_000, sample::at(0)).await.unwrap();
            for item in &page.items {
                let before = memory.insert(item.key.clone(), text(&item.value).to_owned());
                assert_eq!(before, None, "{} stands twice", item.key);
            }
            match page.items.last() {
                Some(last) => after = Some(last.key.clone()),
                None => break,
            }
        }
    }
    let every = FactFilter {
        entity: None,
        direction: Direction::Both,
        relation: None,
        as_of: AsOf::default(),
        history: true,
        after: None,
        limit: 1_000,
    };
    let facts = record.facts(&tenant(), &every).await.unwrap().facts.into_iter();
    let facts = facts.map(|fact| (fact.subject.to_string(), fact.object.to_string(), fact.valid_to.is_none()));
    let notes = record.notes(&tenant(), None, 1_000).await.unwrap().into_iter().map(|note| (note.id, note.text));
    let news = record.events(&tenant(), &"news".parse().unwrap(), Position(0), 1_000).await.unwrap().events;
    Truth {
        memory,
        facts: facts.collect(),
        notes: notes.collect(),
        mail: mail(record).await,
        published: news.into_iter().map(|published| published.event.kind).collect(),
    }
}

/// Every message of every mailbox: see [`Truth::mail`].
async fn mail<R: AnyRecord>(record: &Arc<R>) -> Vec<(String, String, bool, bool)> {
    let mut mail = Vec::new();
    // The version says it: 1 waits, 2 is in somebody's hands, 3 is dead.
    for item in record.context(&tenant(), Topic::Messages, None, 10_000).await.unwrap() {
        let Some(Delta::Sent(message)) = item.deltas.into_iter().next() else { panic!("{} is no message", item.key) };
        if let Channel::Mailbox(agent) = message.channel {
            mail.push((agent.to_string(), message.event.kind, item.version == 2, item.version == 3));
        }
    }
    mail
}

/// Somebody changes this, whoever is at work.
pub(crate) async fn change<R: AnyRecord>(record: &Arc<R>, deltas: Vec<Delta>) {
    let change = Change::Context {
        call: "another's".into(),
        about: String::new(),
        request: ltmc_model::Digest::of(b"another's"),
    };
    let act = Act { by: None, change };
    record.act_with(&tenant(), sample::at(0), act, Changes::blind(deltas)).await.unwrap();
}

/// A message to the worker.
pub(crate) fn letter(id: u64, sender: &str) -> Delta {
    let delta = sample::sent(Channel::Mailbox("worker".parse().unwrap()), id, "work");
    let Delta::Sent(mut message) = delta else { unreachable!("a message is sent") };
    message.event.source = format!("/agents/{sender}");
    Delta::Sent(message)
}

/// A note that is kept.
pub(crate) fn note(id: &str, revision: u64) -> Delta {
    let (text, metadata) = (format!("The {id} note."), Metadata::new());
    Delta::NoteKept(Note { id: id.into(), text, metadata, revision: Revision(revision), kept_at: sample::at(0) })
}

/// Nobody draws a revision again up to this one.
pub(crate) fn drawn_up_to<R: AnyRecord>(record: &Arc<R>, last: u64) {
    while record.next_revision(&tenant()) < Revision(last) {}
}
