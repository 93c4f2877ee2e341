//! What became of nodes in a run. A node below a `map` or a `loop` is drawn once and was there many times: what is shown of it is what
//! needs a look first, and how often it was there.

use std::collections::BTreeMap;

use ltmc_model::workflow::places::is_at;

use crate::figure::Figure;

/// How a node stands; of several that which comes first here is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It failed.
    Failed,
    /// It is under way.
    Running,
    /// It was under way, and goes on when somebody goes on with its run.
    Paused,
    /// It waits.
    Waiting,
    /// It was cut off.
    Cancelled,
    /// It gave something.
    Completed,
    /// It was not done, and will not be.
    Skipped,
    /// It has not begun.
    Pending,
}

impl Status {
    /// All of them: what needs a look first comes first.
    pub const ALL: [Self; 8] = [
        Self::Failed,
        Self::Running,
        Self::Paused,
        Self::Waiting,
        Self::Cancelled,
        Self::Completed,
        Self::Skipped,
        Self::Pending,
    ];

    /// As a run's view names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::Pending => "pending",
        }
    }

    /// One of [`Self::as_str`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What was seen of one node of a run.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its place, with the numbers of items and rounds.
    pub path: String,
    /// How it stands.
    pub status: Status,
    /// What else is to be said: how long it took, how often it was tried.
    pub note: String,
}

/// What is shown of a node.
#[derive(Debug, Clone)]
pub struct State {
    /// That which is to be looked at first.
    pub status: Status,
    /// In a few words.
    pub note: String,
}

impl Figure {
    /// Shows what was seen of each node.
    #[must_use]
    pub fn with(mut self, seen: &[Seen]) -> Self {
        self.each_mut(&mut |figure| {
            let of: Vec<&Seen> = seen.iter().filter(|seen| is_at(&seen.path, &figure.path)).collect();
            figure.state = State::of(&of);
        });
        self
    }
}

impl State {
    fn of(seen: &[&Seen]) -> Option<Self> {
        let mut counts: BTreeMap<Status, usize> = BTreeMap::new();
        seen.iter().for_each(|seen| *counts.entry(seen.status).or_default() += 1);
        let (&status, _) = counts.first_key_value()?;
        let note = match seen {
            [one] if one.note.is_empty() => one.status.as_str().to_owned(),
            [one] => format!("{}, {}", one.status.as_str(), one.note),
            _ => {
                let counted = counts.iter().map(|(status, count)| format!("{count} {}", status.as_str()));
                counted.collect::<Vec<_>>().join(", ")
            }
        };
        Some(Self { status, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_look_first_is_shown_of_many() {
        let one = |status, note: &str| Seen { path: "0".into(), status, note: note.into() };
        let many = [one(Status::Completed, "1 s"), one(Status::Failed, ""), one(Status::Completed, "")];
        let state = State::of(&many.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((state.status, state.note.as_str()), (Status::Failed, "1 failed, 2 completed"));
        assert_eq!(State::of(&[&many[0]]).unwrap().note, "completed, 1 s");
        assert!(State::of(&[]).is_none());
    }

    #[test]
    fn every_status_has_a_name_of_its_own() {
        assert!(Status::ALL.into_iter().all(|status| Status::named(status.as_str()) == Some(status)));
    }
}
