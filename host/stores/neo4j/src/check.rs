//! Whether a Neo4j can be used, and if not, what to change.

use ltmc_ports::StoreError;
use serde::Deserialize;

use crate::error::{self, Trouble};
use crate::link::Link;
use crate::statement::Statement;

/// The first version with what is used here: constraints on relationships.
const OLDEST: (u32, u32) = (5, 7);

pub(crate) async fn check(link: &Link) -> Result<(), StoreError> {
    const OP: &str = "neo4j.check";
    look(link, OP).await.map_err(|trouble| error::store(OP, trouble))?;
    // The schema is looked at anew, whatever was seen of it before.
    link.unprepare();
    link.prepare(OP).await
}

async fn look(link: &Link, op: &'static str) -> Result<(), Trouble> {
    #[derive(Deserialize)]
    struct Component {
        name: String,
        version: String,
    }
    let text = "CALL dbms.components() YIELD name, versions RETURN name, versions[0] AS version";
    let asked = link.ask_unprepared(op, link.patience(), Statement::about_the_database(text)).await;
    let address = link.address().to_owned();
    let components: Vec<Component> = match asked {
        // Others that speak Bolt have no such procedure.
        Err(Trouble::Other { .. } | Trouble::Odd { .. }) => return Err(Trouble::NotNeo4j { address }),
        asked => asked?,
    };
    let Some(kernel) = components.into_iter().find(|component| component.name == "Neo4j Kernel") else {
        return Err(Trouble::NotNeo4j { address });
    };
    if !is_new_enough(&kernel.version) {
        return Err(Trouble::Version { address, found: kernel.version });
    }
    Ok(())
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn versions_before_5_7_are_too_old() {
        for (version, enough) in [
            ("5.26.16", true),
            ("5.7.0", true),
            ("2025.03.0", true),
            ("5.27-aura", true),
            ("5.6.0", false),
            ("4.4.40", false),
        ] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
