//! What branches give together.

use super::{Node, Pick};

/// What branches give together.
#[derive(Debug, Clone, PartialEq)]
pub enum Collect {
    /// A list in the order of the document, with null for a branch that gives nothing.
    List,
    /// An object by the branches' names, without those that give nothing.
    Object,
    /// One object: each branch's over those before it, as JSON merge patches (RFC 7396) are.
    Merge,
    /// What the first of them in the document gives that gives anything.
    First,
    /// What an agent makes of it, as a step.
    Agent(Box<Node>),
    /// What most of them say.
    Vote(Box<Vote>),
}

/// Branches that vote.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// Where in what a branch gives its vote stands.
    pub path: Vec<String>,
    /// When a value has won.
    pub rule: Rule,
    /// Who says what has won where no value has, as a step; none: the node fails.
    pub tie: Option<Node>,
}

/// When a value has won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// More than half of those that gave anything voted for it.
    #[default]
    Majority,
    /// More voted for it than for any other.
    Plurality,
    /// All that gave anything voted for it.
    Unanimous,
}

impl Collect {
    /// The agent's step that it takes.
    pub fn agent(&self) -> Option<&Node> {
        match self {
            Self::List | Self::Object | Self::Merge | Self::First => None,
            Self::Agent(node) => Some(node),
            Self::Vote(vote) => vote.tie.as_ref(),
        }
    }

    /// The same, to be changed.
    pub fn agent_mut(&mut self) -> Option<&mut Node> {
        match self {
            Self::List | Self::Object | Self::Merge | Self::First => None,
            Self::Agent(node) => Some(node),
            Self::Vote(vote) => vote.tie.as_mut(),
        }
    }
}

impl Vote {
    /// The longest value that can be voted for, in bytes of JSON.
    pub const MAX_VALUE: usize = 1 << 10;
    /// How many different values can be voted for.
    pub const MAX_VALUES: usize = 1_000;

    /// The JSON Pointer of [`Self::path`].
    pub fn pointer(&self) -> String {
        self.path.iter().map(|part| format!("/{}", Pick::escaped(part))).collect()
    }
}

impl Rule {
    /// Every rule, by its word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("majority", Self::Majority), ("plurality", Self::Plurality), ("unanimous", Self::Unanimous)];

    /// As documents name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Plurality => "plurality",
            Self::Unanimous => "unanimous",
        }
    }

    /// Whether a value that so many voted for has won, where `next` voted for the one behind it, and `all` gave anything.
    pub fn is_won(self, votes: usize, next: usize, all: usize) -> bool {
        votes > 0
            && match self {
                Self::Majority => votes > all / 2,
                Self::Plurality => votes > next,
                Self::Unanimous => votes == all,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_wins_by_its_rule() {
        for (votes, next, all, wanted) in [
            (0, 0, 0, [false, false, false]),
            (1, 0, 1, [true, true, true]),
            (2, 2, 4, [false, false, false]),
            (2, 1, 4, [false, true, false]),
            (3, 1, 4, [true, true, false]),
            (2, 1, 3, [true, true, false]),
            (3, 0, 4, [true, true, false]),
            (4, 0, 4, [true, true, true]),
        ] {
            let won = Rule::WORDS.map(|(word, rule)| {
                assert_eq!(rule.as_str(), word);
                rule.is_won(votes, next, all)
            });
            assert_eq!(won, wanted, "{votes}, {next} of {all}");
        }
    }
}
