//! Questions: what a run asks people, who may answer, and what became of it.

use ltmc_rules::coordination;
use serde::{Deserialize, Serialize};

use crate::caller::Role;
use crate::{KeyId, Payload, RunId, StepPath, Timestamp};

text_name!(
    /// What a question is answered by. It belongs to one asking of one node of one run: what is asked anew has another.
    Token, "a question's token", "32 of 0-9 and a-f",
    |text| text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// In a line.
    pub title: String,
    /// The smallest role that may answer.
    pub of: Role,
    /// What whoever answers is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub show: Option<Payload>,
    /// The JSON Schema that an answer has to fit, in JSON; none: any JSON does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Until when it can be answered; none: for as long as its run waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Question {
    /// The longest title, in bytes.
    pub const MAX_TITLE: usize = coordination::MAX_TITLE;
    /// The most that is shown, in bytes.
    pub const MAX_SHOWN: usize = coordination::MAX_SHOWN;
    /// The largest answer, in bytes of JSON.
    pub const MAX_ANSWER: usize = 64 << 10;
    /// The longest comment, in bytes.
    pub const MAX_COMMENT: usize = 4 << 10;

    /// As the record keeps it: MessagePack with field names.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("questions are plain values, which MessagePack can write")
    }

    /// As read from the record.
    ///
    /// # Errors
    /// Where the bytes are no question that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It waits for its answer.
    Open,
    /// It was answered.
    Answered,
    /// It took too long, or is not needed any more.
    Withdrawn,
    /// Its run was over before.
    Over,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Answered, Self::Withdrawn, Self::Over];
}

/// A question of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What it is answered by.
    pub token: Token,
    /// The run that asks.
    pub run: RunId,
    /// Which node of it.
    pub node: StepPath,
    /// Whose key started the run.
    pub by: KeyId,
    /// When it was asked.
    pub at: Timestamp,
    /// What became of it.
    pub standing: Standing,
    /// What is asked; of one that is not open only its title and role are kept.
    pub question: Question,
}
