//! What is counted of each tenant's rows against the rows: bytes of journals and besides them, rows and bytes of the log. Where rows were put in or taken
//! away that nothing else tells of, the counts do.

use ltmc_model::TenantId;
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::Connection;

use super::Deleted;
use crate::bind::{all, tenant};
use crate::error::Error;

/// What is counted, by the names of the columns.
const COUNTED: [&str; 4] = ["bytes", "besides", "log_rows", "log_bytes"];

/// The same, summed: as the triggers of the migrations from 0008 on count each row, and the writer each journal's.
const SUMS: &str = "
with besides as (
    select tenant, length(value) + octet_length(key) + octet_length(owner) + 64 as bytes from memory
    union all select tenant, length(properties) + octet_length(subject) + octet_length(relation) + octet_length(object) + 128 from facts
    union all select tenant, length(text) + octet_length(metadata) + octet_length(id) + 64 from notes
    union all select tenant, octet_length(name) + octet_length(value) + octet_length(note) + 64 from note_metadata
    union all select tenant, length(vector) + octet_length(note) + 128 from passages
    union all select tenant, length(event) + octet_length(sender) + 128 from mail
    union all select tenant, length(event) + octet_length(topic) + 64 from events
    union all select tenant, octet_length(key) + 128 from idempotency
    union all select tenant, size + octet_length(manifest) + 128 from agents
    union all select tenant, octet_length(grants) + 64 from grants
    union all select tenant, octet_length(source) + 128 from workflows
    union all select tenant, 1024 from schedules
    union all select tenant, length(question) + octet_length(title) + octet_length(node) + 192 from questions
    union all select tenant, octet_length(node) + octet_length(topic) + coalesce(octet_length(subject), 0) + 192 from subscriptions
    union all select tenant, length(state) + 128 from snapshots
    union all select tenant, octet_length(settings) + octet_length(id) + coalesce(octet_length(holder), 0) + 256 from sessions
    union all select tenant, coalesce(octet_length(holder), 0) + 128 from turns
    union all select tenant, octet_length(key) + coalesce(length(value), 0) + 128 from session_keeps
    union all select tenant, octet_length(document) + octet_length(id) + 128 from session_archives
    union all select tenant, octet_length(agent) + octet_length(key) + 128 from state_timers
    union all select tenant, octet_length(settings) + 1024 from triggers
    union all select tenant, length(event) + octet_length(key) + 512 from arrivals
    union all select tenant, 96 from seen_events
    union all select tenant, octet_length(trigger_id) + 128 from starts
    union all select tenant, 128 from cascades
    union all select tenant, 256 from keys
), each_row as (
    select tenant, length(frames) + 64 as bytes, 0 as besides, 0 as log_rows, 0 as log_bytes from journal
    union all select tenant, 512, 0, 0, 0 from runs
    union all select tenant, 0, bytes, 0, 0 from besides
    union all select tenant, 0, length(delta) + octet_length(about) + 64, 1, length(delta) + octet_length(about) + 64 from log
), sums as (
    select tenant, sum(bytes) as bytes, sum(besides) as besides, sum(log_rows) as log_rows, sum(log_bytes) as log_bytes
    from each_row group by tenant
)
select c.tenant, c.bytes, c.besides, c.log_rows, c.log_bytes,
    coalesce(s.bytes, 0), coalesce(s.besides, 0), coalesce(s.log_rows, 0), coalesce(s.log_bytes, 0)
    from chains c left join sums s using (tenant)
union all select s.tenant, 0, 0, 0, 0, s.bytes, s.besides, s.log_rows, s.log_bytes
    from sums s where s.tenant not in (select tenant from chains)";

pub(super) fn compare(snapshot: &Connection, deleted: &Deleted, audit: &mut Audit) -> Result<(), Error> {
    let counts = all(snapshot, SUMS, [], |row| {
        let column = |number: usize| row.get::<_, i64>(number);
        let both = |of: usize| Ok::<_, Error>((column(1 + of)?, column(1 + COUNTED.len() + of)?));
        Ok((row.get::<_, String>(0)?, [both(0)?, both(1)?, both(2)?, both(3)?]))
    })?;
    for (of, counts) in counts.into_iter().filter(|(of, _)| !deleted.left.contains(of)) {
        for (name, (kept, summed)) in COUNTED.into_iter().zip(counts) {
            if kept == summed {
                continue;
            }
            let what =
                format!("`{name}` of what the tenant has on disk is kept as {kept}, and its rows come to {summed}");
            let tenant = tenant(of.clone()).unwrap_or_else(|_| TenantId::host());
            audit.damage.push(Damage { tenant: Some(tenant), run: None, seq: None, what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rusqlite::params_from_iter;
    use rusqlite::types::Value;

    use super::*;
    use crate::counts::Counts;
    use crate::open;

    /// Tables with tenants' rows that no trigger counts, and why.
    const APART: [(&str, &str); 6] = [
        ("journal", "the writer counts it"),
        ("runs", "the writer counts it"),
        ("chains", "a row a tenant: what is counted"),
        ("ceilings", "a row a tenant"),
        ("embedded", "a row a tenant for each embedder"),
        ("session_times", "a row a tenant"),
    ];

    /// Tables of which a row is a tenant's.
    fn of_tenants(db: &Connection) -> Vec<String> {
        let sql = "select t.name from pragma_table_list as t join pragma_table_info(t.name) as c \
                   where t.schema = 'main' and t.type = 'table' and c.name = 'tenant' order by t.name";
        all(db, sql, [], |row| Ok(row.get(0)?)).unwrap()
    }

    /// Puts a row in of which every column that can holds so many bytes.
    fn insert(db: &Connection, table: &str, bytes: u8) {
        let sql = format!("select name, type from pragma_table_info('{table}')");
        let columns: Vec<(String, String)> = all(db, &sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let values = columns.iter().map(|(name, kind)| match (name.as_str(), kind.as_str()) {
            ("tenant", _) => Value::Text("acme".into()),
            (_, "TEXT") => Value::Text("x".repeat(bytes.into())),
            (_, "BLOB") => Value::Blob(vec![7; bytes.into()]),
            (_, "INTEGER") => Value::Integer(bytes.into()),
            (name, kind) => panic!("{table}: nothing is known of `{name}`, of the type {kind}"),
        });
        let places = vec!["?"; columns.len()].join(", ");
        db.execute(&format!("insert into {table} values ({places})"), params_from_iter(values)).unwrap();
    }

    /// What is kept of what the tenant's rows take, once it is written; it is what they sum up to.
    fn settled(db: &Connection, counts: &Counts, table: &str) -> i64 {
        counts.settle(db).unwrap();
        counts.take();
        let mut audit =
            Audit { verified: 0, damage: Vec::new(), heads: Vec::new(), anchors: 0, others: BTreeMap::new() };
        compare(db, &Deleted { left: BTreeSet::new(), gone: BTreeMap::new() }, &mut audit).unwrap();
        assert!(audit.damage.is_empty(), "{table}: {:?}", audit.damage);
        db.query_row("select besides from chains where tenant = 'acme'", [], |row| row.get(0)).unwrap()
    }

    /// Whoever makes a table finds here that its rows are counted when they come and when they go, by its triggers and by [`SUMS`] alike.
    #[test]
    fn whatever_a_tenant_has_is_counted_when_it_comes_and_when_it_goes() {
        let (db, counts) = (open::in_memory().unwrap(), Counts::default());
        counts.count(&db).unwrap();
        let tables = of_tenants(&db);
        assert!(APART.iter().all(|(table, _)| tables.iter().any(|found| found == table)), "{tables:?}");
        let counted: Vec<&String> =
            tables.iter().filter(|table| APART.iter().all(|(apart, _)| apart != table)).collect();
        assert!(counted.len() >= 22, "these are not all: {counted:?}");
        for table in counted {
            let mut kept = 0;
            for bytes in [3, 50] {
                insert(&db, table, bytes);
                let now = settled(&db, &counts, table);
                assert!(now > kept, "{table}: a row takes nothing");
                kept = now;
            }
            db.execute(&format!("delete from {table}"), []).unwrap();
            assert_eq!(settled(&db, &counts, table), 0, "{table}: what is gone takes something");
        }
    }
}
