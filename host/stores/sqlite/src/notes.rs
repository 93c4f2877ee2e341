//! Notes, and what was made of them: read, and kept beside the journal, for it can be made again at any time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, Revision, TenantId};
use ltmc_ports::recall::{Embedded, StoredPassage, VectorId};
use ltmc_ports::{ReadNotes, StoreError, WriteVectors};
use rusqlite::{Connection, Row, params, params_from_iter};
use tokio::sync::oneshot;

use crate::Record;
use crate::bind::{all, execute, from_json, int, json, number, one, stamp};
use crate::error::{Error, wrong};
use crate::quota;
use crate::writer::Needs;

/// Bytes of texts that are read at once.
const PAGE_BYTES: usize = 4 << 20;
/// A tenant's notes after one of them, at most so many; each as [`note`] reads it.
pub(crate) const PAGE: &str =
    "select id, text, metadata, revision, kept_at from notes where tenant = ? and id > ? order by id limit ?";

#[async_trait]
impl ReadNotes for Record {
    async fn note(&self, tenant: &TenantId, id: &str) -> Result<Option<Note>, StoreError> {
        let sql = "select id, text, metadata, revision, kept_at from notes where tenant = ? and id = ?";
        self.readers.point("notes.note", |db| one(db, sql, params![tenant.as_str(), id], note))
    }

    async fn notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Note>, StoreError> {
        let values = params![tenant.as_str(), after.unwrap_or_default(), limit];
        self.readers.point("notes.notes", |db| {
            let mut statement = db.prepare_cached(PAGE)?;
            let (mut rows, mut notes, mut bytes) = (statement.query(values)?, Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let note = note(row)?;
                bytes += note.text.len();
                if bytes > PAGE_BYTES && !notes.is_empty() {
                    break;
                }
                notes.push(note);
            }
            Ok(notes)
        })
    }

    async fn passages(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        ids: &[VectorId],
    ) -> Result<Vec<(StoredPassage, Note)>, StoreError> {
        let sql = "select notes.id, notes.text, notes.metadata, notes.revision, notes.kept_at, passages.id, passages.part, \
                   passages.begins, passages.ends from json_each(?) as wanted cross join passages on passages.id = wanted.value \
                   join notes on notes.tenant = passages.tenant and notes.id = passages.note \
                   and notes.revision = passages.revision where passages.tenant = ? and passages.embedder = ?";
        let whose = tenant;
        let (tenant, embedder, ids) = (tenant.clone(), embedder.name.clone(), json(&ids));
        let found = |row: &Row<'_>| {
            let note = note(row)?;
            let passage = StoredPassage {
                id: row.get(5)?,
                note: note.id.clone(),
                part: small(row.get(6)?),
                span: (small(row.get(7)?), small(row.get(8)?)),
                vector: Vec::new(),
            };
            Ok((passage, note))
        };
        let read = move |db: &Connection| all(db, sql, params![ids, tenant.as_str(), embedder], found);
        self.readers.search("notes.passages", whose, read).await
    }

    async fn passages_with(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        filter: &Metadata,
        most: u32,
    ) -> Result<(Vec<VectorId>, bool), StoreError> {
        let mut sql = "select id from passages where tenant = ? and embedder = ?".to_owned();
        let mut values = vec![tenant.to_string(), embedder.name.clone()];
        for (name, value) in filter {
            sql.push_str(" and note in (select note from note_metadata where tenant = ? and name = ? and value = ?)");
            values.extend([tenant.to_string(), name.clone(), value.clone()]);
        }
        sql.push_str(&format!(" order by id limit {}", u64::from(most) + 1));
        let read = move |db: &Connection| all(db, &sql, params_from_iter(&values), |row| Ok(row.get(0)?));
        let mut ids: Vec<VectorId> = self.readers.search("notes.passages_with", tenant, read).await?;
        let more = ids.len() > most as usize;
        ids.truncate(most as usize);
        Ok((ids, more))
    }

    async fn vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<VectorId>,
        limit: u32,
    ) -> Result<Vec<StoredPassage>, StoreError> {
        let sql = "select id, note, part, begins, ends, vector from passages indexed by passages_id \
                   where tenant = ? and embedder = ? and id > ? order by id limit ?";
        let passage = |row: &Row<'_>| {
            let vector = row.get_ref(5)?.as_blob().ok().and_then(floats);
            Ok(StoredPassage {
                id: row.get(0)?,
                note: row.get(1)?,
                part: small(row.get(2)?),
                span: (small(row.get(3)?), small(row.get(4)?)),
                vector: vector.ok_or_else(|| wrong("a vector"))?,
            })
        };
        let (tenant, embedder, after) = (tenant.clone(), embedder.name.clone(), after.unwrap_or(-1));
        let read = move |db: &Connection| all(db, sql, params![tenant.as_str(), embedder, after, limit], passage);
        self.readers.scan("notes.vectors", &TenantId::host(), read).await
    }

    async fn embedded(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<Option<Position>, StoreError> {
        let sql = "select position from embedded where tenant = ? and embedder = ? and dimensions = ?";
        let values = params![tenant.as_str(), embedder.name, embedder.dimensions];
        let position = |row: &Row<'_>| Ok(row.get::<_, Option<i64>>(0)?);
        let found = self.readers.point("notes.embedded", |db| one(db, sql, values, position))?;
        Ok(found.flatten().map(|position| Position(number(position))))
    }

    async fn embedded_notes(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "select note, min(revision) from passages where tenant = ? and embedder = ? and note > ? \
                   group by note order by note limit ?";
        let (tenant, embedder, after) = (tenant.clone(), embedder.name.clone(), after.unwrap_or_default().to_owned());
        let read = move |db: &Connection| {
            let values = params![tenant.as_str(), embedder, after, limit];
            all(db, sql, values, |row| Ok((row.get(0)?, number(row.get(1)?))))
        };
        self.readers.scan("notes.embedded_notes", &TenantId::host(), read).await
    }

    async fn embedders(&self, tenant: &TenantId) -> Result<Vec<EmbedderId>, StoreError> {
        let sql = "select embedder, dimensions from embedded where tenant = ? order by embedder";
        let embedder = |row: &Row<'_>| Ok(EmbedderId { name: row.get(0)?, dimensions: small(row.get(1)?) });
        self.readers.point("notes.embedders", |db| all(db, sql, [tenant.as_str()], embedder))
    }
}

#[async_trait]
impl WriteVectors for Record {
    async fn keep_vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        notes: Vec<Embedded>,
        to: Option<Position>,
    ) -> Result<(Vec<StoredPassage>, Vec<VectorId>), StoreError> {
        const OP: &str = "notes.keep_vectors";
        let names = json(&notes.iter().map(|note| note.note.as_str()).collect::<Vec<_>>());
        let sql = "select passages.id from json_each(?) as wanted cross join passages on passages.tenant = ? and passages.embedder = ? \
                   and passages.note = wanted.value";
        let (of, name, wanted) = (tenant.clone(), embedder.name.clone(), names.clone());
        let read = move |db: &Connection| all(db, sql, params![wanted, of.as_str(), name], |row| Ok(row.get(0)?));
        let gone: Vec<VectorId> = self.readers.scan(OP, &TenantId::host(), read).await?;
        let (mut added, mut rows) = (Vec::new(), Vec::new());
        for note in notes {
            for (part, (span, vector)) in (0_u32..).zip(note.passages) {
                let id = self.passage.fetch_add(1, Ordering::Relaxed) + 1;
                rows.push((id, note.note.clone(), int(note.revision.0), part, span, bytes(&vector)));
                added.push(StoredPassage { id, note: note.note.clone(), part, span, vector });
            }
        }
        let (of, name, dimensions) = (tenant.to_string(), embedder.name.clone(), embedder.dimensions);
        let (whose, otherwise, (told, left_out)) = (tenant.clone(), self.quota, oneshot::channel());
        let keep = move |db: &Connection| {
            let mut room = Room::of(db, &whose, otherwise, &of, &name, &names)?;
            let sql =
                "delete from passages where tenant = ? and embedder = ? and note in (select value from json_each(?))";
            execute(db, sql, params![of, name, names])?;
            let sql = "insert into passages (id, tenant, embedder, note, revision, part, begins, ends, vector) \
                       values (?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let mut left_out = BTreeSet::new();
            for rows in rows.chunk_by(|(_, one, ..), (_, other, ..)| one == other) {
                if !room.take(rows.iter().map(|(_, note, .., vector)| passage_size(note, vector)).sum()) {
                    left_out.extend(rows.iter().map(|(_, note, ..)| note.clone()));
                    continue;
                }
                for (id, note, revision, part, (begins, ends), vector) in rows {
                    execute(db, sql, params![id, of, name, note, revision, part, begins, ends, vector])?;
                }
            }
            let _ = told.send(left_out);
            let sql = "insert into embedded (tenant, embedder, dimensions, position) values (?, ?, ?, ?) \
                       on conflict (tenant, embedder) do update set dimensions = excluded.dimensions, \
                       position = coalesce(excluded.position, embedded.position)";
            execute(db, sql, params![of, name, dimensions, to.map(|to| int(to.0))])
        };
        self.writing.side(OP, tenant, Needs::Room, keep).await?;
        let left_out = left_out.await.unwrap_or_default();
        if !left_out.is_empty() {
            let count = left_out.len();
            metrics::counter!("ltmc_recall_left_out_total").increment(count as u64);
            tracing::warn!(%tenant, count, "notes are not found by what they mean: the tenant has all that it may have on disk");
            added.retain(|passage| !left_out.contains(&passage.note));
        }
        Ok((added, gone))
    }

    async fn forget_embedder(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<(), StoreError> {
        let (of, name) = (tenant.to_string(), embedder.name.clone());
        let forget = move |db: &Connection| {
            execute(db, "delete from passages where tenant = ? and embedder = ?", params![of, name])?;
            execute(db, "delete from embedded where tenant = ? and embedder = ?", params![of, name])
        };
        self.writing.side("notes.forget_embedder", tenant, Needs::Nothing, forget).await
    }
}

/// What a tenant may still have on disk.
struct Room(u64);

impl Room {
    /// Once what was made of these notes is gone.
    fn of(
        db: &Connection,
        tenant: &TenantId,
        otherwise: u64,
        of: &str,
        embedder: &str,
        notes: &str,
    ) -> Result<Self, rusqlite::Error> {
        let sql = "select coalesce(sum(length(vector) + octet_length(note) + 128), 0) from passages \
                   where tenant = ? and embedder = ? and note in (select value from json_each(?))";
        let freed = db.prepare_cached(sql)?.query_row(params![of, embedder, notes], |row| Ok(number(row.get(0)?)))?;
        let used = quota::used(db, tenant)?.into_iter().fold(0, u64::saturating_add).saturating_sub(freed);
        Ok(Self(quota::allowed_now(db, tenant, otherwise)?.saturating_sub(used)))
    }

    /// Whether there were so many bytes.
    fn take(&mut self, bytes: u64) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// What a passage is counted as.
fn passage_size(note: &str, vector: &[u8]) -> u64 {
    (note.len() + vector.len() + 128) as u64
}

pub(crate) fn note(row: &Row<'_>) -> Result<Note, Error> {
    let text = String::from_utf8(row.get(1)?).map_err(|_| wrong("a note's text"))?;
    let (revision, kept_at) = (Revision(number(row.get(3)?)), stamp(row.get(4)?));
    Ok(Note { id: row.get(0)?, text, metadata: from_json(row.get(2)?)?, revision, kept_at })
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
