//! Time zones by their names, such as `Europe/Berlin`, as the IANA's database has them; it is built in.

use std::fmt;
use std::str::FromStr;

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::Timestamp;

/// The longest name, in bytes.
const MAX_LEN: usize = 64;
/// What the database calls a zone that is not known.
const UNKNOWN: &str = "Etc/Unknown";

/// A time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: Box<str>,
    zone: TimeZone,
}

impl Zone {
    /// Its name, as the database writes it.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// A moment by its clock, as RFC 9557 writes it: `2026-03-29T03:00:00+02:00[Europe/Berlin]`.
    pub fn show(&self, at: Timestamp) -> String {
        self.at(at).map_or_else(|| at.to_string(), |zoned| zoned.to_string())
    }

    /// A moment by its clock.
    pub(super) fn at(&self, at: Timestamp) -> Option<Zoned> {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.millis()).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }

    /// What its clock shows at a moment.
    pub(super) fn civil(&self, at: Timestamp) -> Option<DateTime> {
        self.at(at).map(|zoned| zoned.datetime())
    }

    /// When its clock shows a time first; of one that it skips, the moment after those that it skips.
    pub(super) fn first(&self, civil: DateTime) -> Option<Timestamp> {
        let at = self.zone.to_ambiguous_timestamp(civil);
        let found = match at.offset() {
            // By the offset of after, a time that is skipped lies before the clock is changed.
            AmbiguousOffset::Gap { after, .. } => {
                let before = after.to_timestamp(civil).ok()?;
                self.zone.following(before).next()?.timestamp()
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => at.earlier().ok()?,
        };
        moment(found)
    }
}

/// A moment as the host counts it.
pub(super) fn moment(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = TimeZoneDatabase::bundled();
        let found = (text.len() <= MAX_LEN && text != UNKNOWN).then(|| known.get(text).ok()).flatten();
        if let Some(zone) = found
            && let Some(name) = zone.iana_name().filter(|name| *name != UNKNOWN)
        {
            return Ok(Self { name: name.into(), zone: zone.clone() });
        }
        let shown: String = text.chars().take(MAX_LEN).collect();
        let names: Vec<String> = known.available().map(|name| name.as_str().to_owned()).collect();
        let hint = match nearest(&shown, &names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "it is a name of the IANA's database, such as `Europe/Berlin` or `UTC`".to_owned(),
        };
        Err(format!("`{shown}` is no time zone; {hint}"))
    }
}

/// The name that was probably meant: one that is written nearly so, or whose city is.
fn nearest<'a>(given: &str, names: &'a [String]) -> Option<&'a str> {
    let given = given.to_lowercase().replace(' ', "_");
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or(&name);
        strsim::osa_distance(&given, &name).min(strsim::osa_distance(&given, city))
    };
    let near = names.iter().map(|name| (distance(name), name.as_str())).min()?;
    (near.0 <= 1 + given.len() / 4).then_some(near.1)
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
