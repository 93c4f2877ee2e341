//! What a Redis holds of a tenant, in pages, in the order of the keys' bytes.

use std::collections::BTreeMap;

use ltmc_model::delta::{RunMark, Topic};
use ltmc_ports::StoreError;

use crate::error::corrupt;
use crate::keys::Keys;
use crate::link::{Link, call};
use crate::scripts;

/// The longest page.
const MAX_PAGE: u32 = 10_000;
/// So many channels are looked into at once.
const AT_ONCE: usize = 64;
const OP: &str = "redis.inventory";

pub(crate) async fn page(
    link: &Link,
    keys: &Keys,
    topic: Topic,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, u64)>, StoreError> {
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    match topic {
        Topic::Memory => sessions(link, keys, after, limit).await,
        Topic::Messages => {
            let mut page = channels::<Mailboxes>(link, keys, after, limit).await?;
            if page.len() < limit {
                page.extend(channels::<Topics>(link, keys, after, limit - page.len()).await?);
            }
            Ok(page)
        }
        Topic::Runs => runs(link, keys, after, limit).await,
        Topic::Graph | Topic::Recall => Ok(Vec::new()),
    }
}

async fn sessions(
    link: &Link,
    keys: &Keys,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, u64)>, StoreError> {
    let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
    let mut cmd = call(&scripts::SESSIONS, &keys.applied());
    cmd.arg(from).arg(limit);
    let found: Vec<String> = link.run(OP, &scripts::SESSIONS, &cmd).await?;
    let pairs = found.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].parse().unwrap_or(0)));
    Ok(pairs.collect())
}

async fn runs(link: &Link, keys: &Keys, after: Option<&str>, limit: usize) -> Result<Vec<(String, u64)>, StoreError> {
    let key = keys.named("runs");
    let mut ids: Vec<String> = link.ask(OP, redis::cmd("HKEYS").arg(&key)).await?;
    ids.retain(|id| after.is_none_or(|after| id.as_str() > after));
    ids.sort_unstable();
    ids.truncate(limit);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let marks: Vec<Option<String>> = link.ask(OP, redis::cmd("HMGET").arg(&key).arg(&ids)).await?;
    // One that ended meanwhile is not there any more. One that cannot be read is: as of no version, so that it is mended.
    let versions = ids.into_iter().zip(marks).filter_map(|(id, mark)| {
        let seq = |mark: &str| serde_json::from_str::<RunMark>(mark).map_or(0, |mark| mark.seq.0);
        mark.map(|mark| (id, seq(&mark)))
    });
    Ok(versions.collect())
}

/// A kind of channel: how its messages are listed.
trait Kind {
    /// What keys begin with.
    const PREFIX: &'static str;
    /// The key that has their names.
    const NAMES: &'static str;

    /// Asks for a channel's messages from `rest` on, what follows the channel's prefix in a key.
    fn ask(pipe: &mut redis::Pipeline, keys: &Keys, name: &str, rest: &str, limit: usize);

    /// The id of a message, and its version, of one word of the answer.
    fn read(words: Vec<String>) -> Result<Vec<(String, u64)>, StoreError>;
}

struct Mailboxes;

impl Kind for Mailboxes {
    const PREFIX: &'static str = "mailbox/";
    const NAMES: &'static str = "mailboxes";

    fn ask(pipe: &mut redis::Pipeline, keys: &Keys, name: &str, _: &str, _: usize) {
        let (stream, places) = (keys.named(&format!("mailbox:{name}")), keys.named(&format!("places:{name}")));
        pipe.cmd("EVAL").arg(scripts::MAILBOX).arg(2).arg(stream).arg(places);
    }

    fn read(words: Vec<String>) -> Result<Vec<(String, u64)>, StoreError> {
        let read = |pair: &[String]| {
            let id: u64 = pair[0].parse().map_err(|_| corrupt(OP, "a message's id is no number"))?;
            let state = pair[1].parse().map_err(|_| corrupt(OP, "a message's state is no number"))?;
            Ok((format!("{id:020}"), state))
        };
        words.chunks_exact(2).map(read).collect()
    }
}

struct Topics;

impl Kind for Topics {
    const PREFIX: &'static str = "topic/";
    const NAMES: &'static str = "topics";

    fn ask(pipe: &mut redis::Pipeline, keys: &Keys, name: &str, rest: &str, limit: usize) {
        let key = keys.named(&format!("topic:{name}"));
        pipe.cmd("EVAL").arg(scripts::PLACES).arg(1).arg(key).arg(first_after(rest)).arg(limit);
    }

    fn read(words: Vec<String>) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(words.into_iter().map(|place| (format!("{place:0>20}"), 1)).collect())
    }
}

/// The first place that, as 20 digits, comes after `rest`, which may be any text.
fn first_after(rest: &str) -> u64 {
    const DIGITS: usize = 20;
    let digits = rest.bytes().take(DIGITS).take_while(u8::is_ascii_digit).count();
    let number = format!("{:0<DIGITS$}", &rest[..digits]).parse().unwrap_or(u128::MAX);
    // Something that comes after all digits stands where the next digit would.
    let beyond = digits == DIGITS || rest.as_bytes().get(digits).is_some_and(|byte| *byte > b'9');
    let first = if beyond { number.saturating_add(10_u128.pow((DIGITS - digits) as u32)) } else { number };
    u64::try_from(first).unwrap_or(u64::MAX)
}

/// A page of all channels of a kind. A topic's name may hold what looks like the beginning of another's messages, so that
/// their keys may lie between each other.
async fn channels<K: Kind>(
    link: &Link,
    keys: &Keys,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, u64)>, StoreError> {
    let after = after.unwrap_or_default();
    let named = redis::cmd("ZRANGE").arg(keys.named(K::NAMES)).arg(0).arg(-1).to_owned();
    let names: Vec<String> = link.ask(OP, &named).await?;
    // Each ends with `/`, and they are in the order of their keys.
    let prefixes = names.iter().map(|name| (name.trim_end_matches('/'), format!("{}{name}", K::PREFIX)));
    let left: Vec<(&str, String)> = prefixes.filter(|(_, prefix)| format!("{prefix}:").as_str() > after).collect();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for some in left.chunks(AT_ONCE) {
        if found.len() >= limit && found.keys().nth(limit - 1).is_some_and(|last| some[0].1 > *last) {
            break;
        }
        let mut pipe = redis::pipe();
        for (name, prefix) in some {
            K::ask(&mut pipe, keys, name, after.strip_prefix(prefix.as_str()).unwrap_or_default(), limit);
        }
        let answers: Vec<Vec<String>> = link.ask_all(OP, &pipe).await?;
        for ((_, prefix), words) in some.iter().zip(answers) {
            let listed = K::read(words)?.into_iter().map(|(id, version)| (format!("{prefix}{id}"), version));
            found.extend(listed.filter(|(key, _)| key.as_str() > after));
        }
    }
    Ok(found.into_iter().take(limit).collect())
}

#[cfg(test)]
mod tests {
    use super::first_after;

    #[test]
    fn the_first_place_after_any_text() {
        let digits = |place: u64| format!("{place:020}");
        for rest in
            ["", "0", "00000000000000000007", "00000000000000000007/x/1", "0000000000000000000", "a", "-", "05-x"]
        {
            let first = first_after(rest);
            assert!(digits(first).as_str() > rest || first == u64::MAX, "{rest}: {first}");
            assert!(first == 0 || digits(first - 1).as_str() <= rest, "{rest}: {first}");
        }
        assert_eq!(first_after("9z"), u64::MAX);
    }
}
