//! The Lua scripts: each runs whole, or, where Redis is out of memory or read-only, not at all.

use std::sync::LazyLock;

use redis::Script;

macro_rules! writing {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "#!lua\n",
                include_str!("scripts/each_entry.lua"),
                include_str!("scripts/common.lua"),
                include_str!($file)
            ))
        })
    };
}

macro_rules! reading {
    ($file:literal) => {
        concat!("#!lua flags=no-writes\n", include_str!("scripts/each_entry.lua"), include_str!($file))
    };
}

pub(crate) static APPLY: LazyLock<Script> = writing!("scripts/apply.lua");
pub(crate) static BEGIN: LazyLock<Script> = writing!("scripts/begin.lua");
pub(crate) static PUT: LazyLock<Script> = writing!("scripts/put.lua");
pub(crate) static DISCARD: LazyLock<Script> = writing!("scripts/discard.lua");
pub(crate) static SET: LazyLock<Script> = writing!("scripts/set.lua");
pub(crate) static EVENTS: LazyLock<Script> = LazyLock::new(|| Script::new(reading!("scripts/events.lua")));
pub(crate) static SESSIONS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/sessions.lua")));
/// Asked of many streams in one pipeline, so that they are sent whole.
pub(crate) const MAILBOX: &str = reading!("scripts/mailbox.lua");
pub(crate) const PLACES: &str = reading!("scripts/places.lua");
/// Refused wherever a script that writes would be, and writes nothing.
pub(crate) const WRITES: &str = "#!lua\nreturn 1";

#[cfg(test)]
mod tests {
    use ltmc_model::message::MAX_DELIVERIES;

    #[test]
    fn the_script_buries_when_the_record_does() {
        assert!(include_str!("scripts/apply.lua").contains(&format!("local MOST_DELIVERIES = {MAX_DELIVERIES}\n")));
    }
}
