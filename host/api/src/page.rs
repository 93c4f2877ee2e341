//! Pages of lists: `?limit=&cursor=` in, `{items, next}` out.
//!
//! Invariant: a cursor is opaque, and good only for the list that gave it.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::{Problem, Result};

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub(crate) limit: Option<u32>,
    /// The `next` of the page before.
    pub(crate) cursor: Option<String>,
}

impl Paging {
    /// The longest page.
    pub(crate) const MAX: u32 = 500;
    const DEFAULT: u32 = 50;

    /// How many items the page has at most.
    pub(crate) fn limit(&self) -> Result<u32> {
        limit(self.limit)
    }

    /// What the page comes after; `list` names the list.
    pub(crate) fn after<T: FromStr>(&self, list: &str) -> Result<Option<T>> {
        self.cursor.as_deref().map(|cursor| open(list, cursor)).transpose()
    }
}

/// A bounded number of items.
pub(crate) fn limit(wanted: Option<u32>) -> Result<u32> {
    let limit = wanted.unwrap_or(Paging::DEFAULT);
    if (1..=Paging::MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new("bad-query", format!("`limit` is 1 to {}, not {limit}.", Paging::MAX)).field("limit"))
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// In the list's order.
    pub(crate) items: Vec<T>,
    /// The cursor of the next page; none: that was all.
    #[schema(required, example = "YWdlbnRzOnJldmlldw")]
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of `found`, which has one more where there is another page. `key` is what that page comes after.
    pub(crate) fn of<F>(
        list: &str,
        limit: u32,
        mut found: Vec<F>,
        key: impl Fn(&F) -> String,
        item: impl Fn(F) -> T,
    ) -> Self {
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = if more { found.last().map(|last| seal(list, &key(last))) } else { None };
        Self { items: found.into_iter().map(item).collect(), next }
    }
}

pub(crate) fn seal(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{key}"))
}

pub(crate) fn open<T: FromStr>(list: &str, cursor: &str) -> Result<T> {
    let key = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        text.strip_prefix(list)?.strip_prefix(':')?.parse().ok()
    };
    let wrong = "`cursor` is the `next` of an earlier page of this same list; leave it out for the first page.";
    key().ok_or_else(|| Problem::new("bad-cursor", wrong).field("cursor"))
}

#[cfg(test)]
mod tests {
    use ltmc_model::AgentName;

    use super::*;

    fn paging(limit: Option<u32>, cursor: Option<&str>) -> Paging {
        Paging { limit, cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn a_cursor_leads_to_what_comes_after_the_page_it_stands_on() {
        let page = Page::of("agents", 2, vec!["a", "b", "c"], |name| (*name).to_owned(), str::to_owned);
        assert_eq!(page.items, ["a", "b"]);
        let next = page.next.unwrap();
        assert_eq!(paging(None, Some(&next)).after::<AgentName>("agents").unwrap().unwrap().as_str(), "b");
        assert!(next.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
    }

    #[test]
    fn the_last_page_has_no_next() {
        assert_eq!(Page::of("a", 2, vec![1, 2], i32::to_string, |n| n).next, None);
        assert_eq!(Page::of("a", 2, Vec::<i32>::new(), i32::to_string, |n| n).next, None);
    }

    #[test]
    fn a_cursor_of_another_list_or_of_no_list_is_refused() {
        let other = seal("runs", "b");
        for bad in [other.as_str(), "", "%%", "AAAA", &seal("agents", "NO NAME"), &"A".repeat(10_000)] {
            assert!(paging(None, Some(bad)).after::<AgentName>("agents").is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(paging(None, None).limit().unwrap(), 50);
        assert_eq!(paging(Some(500), None).limit().unwrap(), 500);
        for bad in [0, 501, u32::MAX] {
            assert!(paging(Some(bad), None).limit().is_err());
        }
    }
}
