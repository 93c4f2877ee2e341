//! What the agents of a support desk share: what a request is about, and what is known of its case.

use ltmc::memory::{self, Scope};
use ltmc::{Error, Json};
use serde::{Deserialize, Serialize};

/// Where the session keeps the case.
const CASE: &str = "case";

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Money back.
    Money,
    /// Something that does not work.
    Trouble,
}

impl About {
    /// What a message is about; none: it does not say.
    pub fn of(message: &str) -> Option<Self> {
        const MONEY: [&str; 6] = ["refund", "money", "charged", "paid", "invoice", "price"];
        const TROUBLE: [&str; 7] = ["broken", "error", "crash", "install", "does not work", "fails", "password"];
        let said = message.to_lowercase();
        let says = |words: &[&str]| words.iter().filter(|word| said.contains(**word)).count();
        match (says(&MONEY), says(&TROUBLE)) {
            (0, 0) => None,
            (money, trouble) if money >= trouble => Some(Self::Money),
            _ => Some(Self::Trouble),
        }
    }
}

/// What is known of a conversation's case: every agent of the desk reads and writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Case {
    /// The order that it is about.
    pub order: Option<String>,
    /// What was done so far, for people.
    #[serde(default)]
    pub done: Vec<String>,
}

impl Case {
    /// As it is kept.
    ///
    /// # Errors
    /// Where the session's memory cannot be read.
    pub fn read() -> Result<Self, Error> {
        Ok(memory::open(Scope::Session)?.get_json(CASE)?.unwrap_or_default())
    }

    /// With what a message says of it: the number of an order.
    #[must_use]
    pub fn with(mut self, message: &str) -> Self {
        self.order = order(message).or(self.order);
        self
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Where the session's memory cannot be written.
    pub fn write(&self) -> Result<(), Error> {
        memory::open(Scope::Session)?.put_json(CASE, self).map(drop)
    }

    /// What is told of it to whoever takes the conversation over.
    pub fn summary(&self, wish: &str) -> Json<Summary> {
        Json(Summary { order: self.order.clone(), wish: wish.to_owned() })
    }
}

/// What passes with a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The order that it is about.
    pub order: Option<String>,
    /// What is wanted, in the words in which it was asked for.
    pub wish: String,
}

/// The first number of an order in a message: four digits or more in a row.
fn order(message: &str) -> Option<String> {
    let numbers = message.split(|c: char| !c.is_ascii_digit());
    numbers.filter(|number| (4..=12).contains(&number.len())).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_most_of_is_what_it_is_about() {
        assert_eq!(About::of("I was charged twice, I want my money back"), Some(About::Money));
        assert_eq!(About::of("The app crashes with an error"), Some(About::Trouble));
        assert_eq!(About::of("Hello"), None);
    }

    #[test]
    fn an_order_is_a_number_of_four_digits_or_more() {
        assert_eq!(order("order 4711, of 3 parcels"), Some("4711".into()));
        assert_eq!(order("in 10 days"), None);
        let case = Case { order: Some("1234".into()), ..Case::default() };
        assert_eq!(case.with("thanks").order.as_deref(), Some("1234"), "what was said before stays");
    }
}
