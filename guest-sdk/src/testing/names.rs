//! The names that the contract knows, refused as the host refuses them.

use ltmc_rules::Name;

use crate::Error;

pub(super) fn agent(text: &str) -> Result<(), Error> {
    parsed(text, &Name::AGENT)
}

pub(super) fn topic(text: &str) -> Result<(), Error> {
    parsed(text, &Name::TOPIC)
}

pub(super) fn relation(text: &str) -> Result<(), Error> {
    parsed(text, &Name::RELATION)
}

pub(super) fn entity(text: &str) -> Result<(), Error> {
    parsed(text, &Name::ENTITY)
}

fn parsed(text: &str, name: &Name) -> Result<(), Error> {
    if (name.fits)(text) {
        return Ok(());
    }
    let given: String = text.chars().take(80).collect();
    Err(Error::Invalid(format!("`{given}` is not {}: {}", name.what, name.rule)))
}
