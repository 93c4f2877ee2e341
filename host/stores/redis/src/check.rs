//! Whether a Redis can be used, and if not, what to change.

use ltmc_ports::StoreError;
use redis::{InfoDict, RedisError};

use crate::error::{self, Trouble};
use crate::link::Link;
use crate::scripts;

/// The first version with what is used here.
const OLDEST: (u32, u32) = (7, 0);

pub(crate) async fn check(link: &Link) -> Result<(), StoreError> {
    let op = "redis.check";
    match look(link).await {
        Ok(None) => Ok(()),
        Ok(Some(trouble)) => Err(StoreError::new(error::kind(&trouble), op).because(trouble)),
        Err(error) if error.is_timeout() && link.is_tls() => {
            let why = "it took too long, as one that does not speak TLS does: that is written redis://".into();
            let trouble = Trouble::Unreachable { address: link.address().to_owned(), why };
            Err(StoreError::new(error::kind(&trouble), op).because(trouble))
        }
        Err(error) => Err(error::store(op, link.address(), &error)),
    }
}

/// Looks through a connection of its own: the shared one may be from before the server was replaced.
async fn look(link: &Link) -> Result<Option<Trouble>, RedisError> {
    let address = link.address().to_owned();
    let mut connection = link.apart().await?;
    let info: InfoDict = redis::cmd("INFO").query_async(&mut connection).await?;
    let said = |key: &str| info.get::<String>(key).unwrap_or_default();
    let version = said("redis_version");
    if version.is_empty() {
        return Ok(Some(Trouble::NotRedis { address }));
    }
    if !is_new_enough(&version) {
        return Ok(Some(Trouble::Version { address, found: version }));
    }
    if said("loading") == "1" {
        return Ok(Some(Trouble::Loading { address }));
    }
    if said("role") != "master" {
        return Ok(Some(Trouble::Replica { address }));
    }
    let bytes = |key: &str| said(key).parse::<u64>().unwrap_or(0);
    let policy = said("maxmemory_policy");
    if bytes("maxmemory") > 0 && policy.starts_with("allkeys") {
        return Ok(Some(Trouble::Evicts { address, policy }));
    }
    // Refused where a write would be, for whatever reason.
    let mut write = redis::cmd("EVAL");
    write.arg(scripts::WRITES).arg(1).arg("ltmc:{check}:applied");
    write.query_async::<()>(&mut connection).await?;
    Ok(None)
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn versions_before_7_0_are_too_old() {
        for (version, enough) in
            [("7.0.0", true), ("7.2", true), ("8.0.1", true), ("10.0", true), ("6.2.14", false), ("unstable", false)]
        {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
