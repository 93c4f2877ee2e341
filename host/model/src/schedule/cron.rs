//! Cron expressions: `minute hour day-of-month month day-of-week`, or a word such as `@daily`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use croner::Cron as Pattern;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;

use super::zone::{self, Zone};
use crate::Timestamp;

/// The longest expression, in bytes.
const MAX_LEN: usize = 200;
const HOURS: usize = 24;
/// The most days of each month.
const LENGTHS: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Expressions with names of their own.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The fields in their order.
const FIELDS: [Field; 5] = [
    Field { name: "minute", values: "0 to 59", letters: Letters::None, most: 59 },
    Field { name: "hour", values: "0 to 23", letters: Letters::None, most: 23 },
    Field { name: "day of the month", values: "1 to 31, or `L` for the last", letters: Letters::Last, most: 31 },
    Field { name: "month", values: "1 to 12, or `JAN` to `DEC`", letters: Letters::Names, most: 12 },
    Field {
        name: "day of the week",
        values: "0 to 7 (both ends are Sunday) or `SUN` to `SAT`, `MON#1` for the first one of a month, `FRI#L` for the last",
        letters: Letters::Weekdays,
        most: 7,
    },
];

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What a field may be.
struct Field {
    name: &'static str,
    values: &'static str,
    letters: Letters,
    /// No step is longer.
    most: u32,
}

/// Which letters a field may have.
#[derive(Clone, Copy)]
enum Letters {
    None,
    Last,
    Names,
    Weekdays,
}

static PARSER: LazyLock<CronParser> =
    LazyLock::new(|| CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build());

/// A cron expression of five fields.
#[derive(Clone)]
pub struct Cron {
    text: Arc<str>,
    pattern: Arc<Pattern>,
}

impl Cron {
    /// As it was written, with one space between its fields.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there are hours of a day in which it does not come.
    pub(super) fn names_hours(&self) -> bool {
        self.pattern.pattern.hours.values().len() < HOURS
    }

    /// The first time of a clock after another at which it comes, whatever is done to the clock.
    pub(super) fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&after, false).ok()
    }

    /// The first moment after another at which a zone's clock shows such a time.
    pub(super) fn next_instant(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let found = self.pattern.find_next_occurrence(&zone.at(after)?, false).ok()?;
        zone::moment(found.timestamp())
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        if text.len() > MAX_LEN {
            return Err(format!("`{shown}…` is no cron expression: it is longer than {MAX_LEN} bytes"));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let text = fields.join(" ");
        if text.starts_with('@') {
            let Some((word, fields)) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text)) else {
                let words: Vec<String> = WORDS.iter().map(|(word, _)| format!("`{word}`")).collect();
                return Err(format!("`{shown}` is no cron expression: of such words there are {}", words.join(", ")));
            };
            return Self::of(word, fields).ok_or_else(|| format!("`{word}` is not known"));
        }
        if fields.len() != FIELDS.len() {
            return Err(format!(
                "`{shown}` is no cron expression: it has {} fields and not five, which are minute, hour, day of the month, month, day \
                 of the week, as in `0 6 * * 1-5`; a minute is the finest there is",
                fields.len()
            ));
        }
        if let Some(wrong) = fields.iter().enumerate().find_map(|(number, field)| wrong(number, field)) {
            return Err(format!("`{shown}` is no cron expression: {wrong}"));
        }
        let cron = Self::of(&text, &text).ok_or_else(|| format!("`{shown}` is no cron expression"))?;
        if !cron.comes() {
            return Err(format!("`{shown}` never comes: no month that it names has a day that it names"));
        }
        Ok(cron)
    }
}

impl Cron {
    fn of(text: &str, fields: &str) -> Option<Self> {
        let pattern = PARSER.parse(fields).ok()?;
        Some(Self { text: text.into(), pattern: Arc::new(pattern) })
    }

    /// Whether a month that it names has a day that it names. Days of the week come in every month.
    fn comes(&self) -> bool {
        let pattern = &self.pattern.pattern;
        let (days, months) = (pattern.days.values(), pattern.months.values());
        let longest = months.iter().map(|month| LENGTHS[usize::from(*month) - 1]).max().unwrap_or(0);
        !pattern.is_dow_wildcard() || pattern.days.has_modifiers() || days.iter().any(|day| *day <= longest)
    }
}

impl Field {
    /// Whether a text has the letters and the form of this field; whether its numbers fit is not looked at.
    fn may_be(&self, text: &str) -> bool {
        let plain = |c: char| c.is_ascii_digit() || matches!(c, '*' | ',' | '-' | '/');
        let has_right_letters = match self.letters {
            Letters::None => text.chars().all(plain),
            Letters::Last => text.split(',').all(|part| part.eq_ignore_ascii_case("l") || part.chars().all(plain)),
            Letters::Names => has_names(text, &MONTHS),
            // One `L` alone, or behind a day, would be read as something else.
            Letters::Weekdays => text.split(',').all(|part| {
                let (day, number) = part.split_once('#').unwrap_or((part, "1"));
                let is_number = number.eq_ignore_ascii_case("l") || number.chars().all(|c| c.is_ascii_digit());
                is_number && has_names(day, &DAYS)
            }),
        };
        let step =
            |part: &str| part.split_once('/').is_none_or(|(_, step)| step.parse().is_ok_and(|n: u32| n <= self.most));
        has_right_letters && text.split(',').all(|part| !part.is_empty() && step(part))
    }
}

/// Whether a text has such names and what a field has besides letters.
fn has_names(text: &str, names: &[&str]) -> bool {
    let words = text.split(|c: char| c.is_ascii_digit() || matches!(c, '*' | ',' | '-' | '/'));
    words.filter(|word| !word.is_empty()).all(|word| names.iter().any(|name| name.eq_ignore_ascii_case(word)))
}

/// What is wrong with a field.
fn wrong(number: usize, text: &str) -> Option<String> {
    let field = &FIELDS[number];
    // The others are such as suit everything.
    let alone: Vec<&str> = (0..FIELDS.len()).map(|other| if other == number { text } else { "*" }).collect();
    let is_right = field.may_be(text) && PARSER.parse(&alone.join(" ")).is_ok();
    let Field { name, values, .. } = field;
    (!is_right).then(|| {
        format!("`{text}` is no {name}, which is {values}; `*` is every one, `1,5` a list, `1-5` a range, `*/2` every second one")
    })
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
