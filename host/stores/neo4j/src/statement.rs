//! How statements are made.
//!
//! Invariant: the text of a statement consists of texts of this crate, and of the one number [`Statement::depth`] writes:
//! only `&'static str` is taken. Whatever else there is to say is a parameter. The parameter `tenant` is always there.

use ltmc_model::graph::{AsOf, MAX_DEPTH};
use ltmc_model::{TenantId, Timestamp};
use neo4rs::{BoltList, BoltNull, BoltType, Query};

/// A statement in the making.
#[derive(Clone)]
pub(crate) struct Statement {
    text: String,
    of_a_tenant: bool,
    parameters: Vec<(&'static str, BoltType)>,
}

impl Statement {
    /// About a tenant's things: its text says `$tenant`.
    pub(crate) fn of(tenant: &TenantId, text: &'static str) -> Self {
        Self { text: text.to_owned(), of_a_tenant: true, parameters: vec![("tenant", tenant.as_str().into())] }
    }

    /// About the database itself, not about what anybody has in it.
    pub(crate) fn about_the_database(text: &'static str) -> Self {
        Self { text: text.to_owned(), of_a_tenant: false, parameters: Vec::new() }
    }

    /// Goes on with this.
    pub(crate) fn then(mut self, text: &'static str) -> Self {
        self.text.push(' ');
        self.text.push_str(text);
        self
    }

    /// Goes on with this, if so.
    pub(crate) fn then_if(self, so: bool, text: &'static str) -> Self {
        if so { self.then(text) } else { self }
    }

    /// Goes on with how far a pattern goes: `*..3`.
    pub(crate) fn depth(mut self, depth: u32) -> Self {
        self.text.push_str("*..");
        self.text.push_str(&depth.clamp(1, MAX_DEPTH).to_string());
        self
    }

    /// Goes on with the condition that the fact `f` is seen from `as_of`, as [`ltmc_model::graph::Fact::seen`] says it.
    pub(crate) fn seen(self, as_of: AsOf) -> Self {
        let text = match (as_of.valid, as_of.known) {
            (None, None) => "f.valid_to IS NULL",
            (Some(_), None) => "f.valid_from <= $valid AND (f.valid_to IS NULL OR $valid < f.valid_to)",
            (None, Some(_)) => "f.recorded_at <= $known AND (f.valid_to IS NULL OR f.ended_at > $known)",
            (Some(_), Some(_)) => {
                "f.recorded_at <= $known AND f.valid_from <= $valid \
                 AND (f.valid_to IS NULL OR f.ended_at > $known OR $valid < f.valid_to)"
            }
        };
        let mut statement = self.then(text);
        if let Some(valid) = as_of.valid {
            statement = statement.with("valid", time(valid));
        }
        if let Some(known) = as_of.known {
            statement = statement.with("known", time(known));
        }
        statement
    }

    /// With this parameter.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<BoltType>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    /// With these rows, each a list, as the parameter `rows`.
    pub(crate) fn rows<const N: usize>(self, rows: impl IntoIterator<Item = [BoltType; N]>) -> Self {
        let rows = rows.into_iter().map(list).collect::<Vec<_>>();
        self.with("rows", list(rows))
    }

    /// As the driver wants it.
    pub(crate) fn query(self) -> Query {
        debug_assert!(
            !self.of_a_tenant || self.text.contains("$tenant"),
            "a statement without its tenant: {}",
            self.text
        );
        Query::new(self.text).params(self.parameters)
    }
}

/// A list of values.
pub(crate) fn list(values: impl IntoIterator<Item = BoltType>) -> BoltType {
    BoltType::List(BoltList { value: values.into_iter().collect() })
}

/// A list of texts.
pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> BoltType {
    list(texts.into_iter().map(BoltType::from))
}

/// A number. Cypher's end at 2^63: so do ids and places, long before.
pub(crate) fn number(number: u64) -> BoltType {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// A point in time.
pub(crate) fn time(time: Timestamp) -> BoltType {
    number(time.millis())
}

/// A value, or none.
pub(crate) fn maybe(value: Option<BoltType>) -> BoltType {
    value.unwrap_or(BoltType::Null(BoltNull))
}

/// A number as it was read.
pub(crate) fn read(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_a_number_within_bounds() {
        let acme: TenantId = "acme".parse().unwrap();
        for (depth, text) in [(0, "*..1"), (1, "*..1"), (16, "*..16"), (u32::MAX, "*..16")] {
            assert_eq!(Statement::of(&acme, "$tenant").depth(depth).text, format!("$tenant{text}"));
        }
    }
}
