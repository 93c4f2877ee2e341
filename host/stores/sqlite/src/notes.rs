//! Notes, and what was made of them: read, and kept beside the journal, for it can be made again at any time.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, Revision, TenantId};
use ltmc_ports::recall::{Embedded, StoredPassage, VectorId};
use ltmc_ports::{ReadNotes, StoreError, WriteVectors};
use rusqlite::{Connection, params};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::Record;
use crate::bind::{execute, int};
use crate::error::store;
use crate::journal::{number, stamp, wrong};

/// Bytes of texts that are read at once.
const PAGE_BYTES: usize = 4 << 20;
/// A tenant's notes after one of them, at most so many; each as [`note`] reads it.
pub(crate) const PAGE: &str =
    "select id, text, metadata, revision, kept_at from notes where tenant = ? and id > ? order by id limit ?";

#[async_trait]
impl ReadNotes for Record {
    async fn note(&self, tenant: &TenantId, id: &str) -> Result<Option<Note>, StoreError> {
        const OP: &str = "notes.note";
        let sql = "select id, text, metadata, revision, kept_at from notes where tenant = ? and id = ?";
        let row = sqlx::query(sql).bind(tenant.as_str()).bind(id).fetch_optional(&self.readers).await;
        let row = row.map_err(|e| store(OP, e))?;
        row.as_ref().map(note).transpose().map_err(|e| store(OP, e))
    }

    async fn notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Note>, StoreError> {
        const OP: &str = "notes.notes";
        let query = sqlx::query(PAGE).bind(tenant.as_str()).bind(after.unwrap_or_default()).bind(i64::from(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let mut notes: Vec<Note> = rows.iter().map(note).collect::<Result<_, _>>().map_err(|e| store(OP, e))?;
        let mut bytes = 0;
        let fit = notes.iter().take_while(|note| {
            bytes += note.text.len();
            bytes <= PAGE_BYTES
        });
        let fit = fit.count().max(1);
        notes.truncate(fit);
        Ok(notes)
    }

    async fn passages(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        ids: &[VectorId],
    ) -> Result<Vec<(StoredPassage, Note)>, StoreError> {
        const OP: &str = "notes.passages";
        let sql = "select notes.id, notes.text, notes.metadata, notes.revision, notes.kept_at, passages.id, passages.part, \
                   passages.begins, passages.ends from json_each(?) as wanted cross join passages on passages.id = wanted.value \
                   join notes on notes.tenant = passages.tenant and notes.id = passages.note \
                   and notes.revision = passages.revision where passages.tenant = ? and passages.embedder = ?";
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let query = sqlx::query(sql).bind(ids).bind(tenant.as_str()).bind(&embedder.name);
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let read = |row: &SqliteRow| {
            let note = note(row)?;
            let passage = StoredPassage {
                id: row.try_get(5)?,
                note: note.id.clone(),
                part: small(row.try_get(6)?),
                span: (small(row.try_get(7)?), small(row.try_get(8)?)),
                vector: Vec::new(),
            };
            Ok((passage, note))
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(|e| store(OP, e))
    }

    async fn passages_with(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        filter: &Metadata,
        most: u32,
    ) -> Result<(Vec<VectorId>, bool), StoreError> {
        const OP: &str = "notes.passages_with";
        let mut sql = "select id from passages where tenant = ? and embedder = ?".to_owned();
        for _ in filter {
            sql.push_str(" and note in (select note from note_metadata where tenant = ? and name = ? and value = ?)");
        }
        sql.push_str(" order by id limit ?");
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(&embedder.name);
        for (name, value) in filter {
            query = query.bind(tenant.as_str()).bind(name).bind(value);
        }
        let found = query.bind(i64::from(most) + 1).fetch_all(&self.readers).await;
        let mut ids: Vec<VectorId> = found.map_err(|e| store(OP, e))?;
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
        const OP: &str = "notes.vectors";
        let sql = "select id, note, part, begins, ends, vector from passages indexed by passages_id \
                   where tenant = ? and embedder = ? and id > ? order by id limit ?";
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(&embedder.name).bind(after.unwrap_or(-1));
        let rows = query.bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let read = |row: &SqliteRow| {
            let vector: Vec<u8> = row.try_get(5)?;
            Ok(StoredPassage {
                id: row.try_get(0)?,
                note: row.try_get(1)?,
                part: small(row.try_get(2)?),
                span: (small(row.try_get(3)?), small(row.try_get(4)?)),
                vector: floats(&vector).ok_or_else(|| wrong("a vector"))?,
            })
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(|e| store(OP, e))
    }

    async fn embedded(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<Option<Position>, StoreError> {
        let sql = "select position from embedded where tenant = ? and embedder = ? and dimensions = ?";
        let query =
            sqlx::query_scalar(sql).bind(tenant.as_str()).bind(&embedder.name).bind(i64::from(embedder.dimensions));
        let found: Option<Option<i64>> =
            query.fetch_optional(&self.readers).await.map_err(|e| store("notes.embedded", e))?;
        Ok(found.flatten().map(|position| Position(number(position))))
    }

    async fn embedded_notes(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        const OP: &str = "notes.embedded_notes";
        let sql = "select note, min(revision) from passages where tenant = ? and embedder = ? and note > ? \
                   group by note order by note limit ?";
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(&embedder.name).bind(after.unwrap_or_default());
        let rows = query.bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let read = |row: &SqliteRow| Ok((row.try_get(0)?, number(row.try_get(1)?)));
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(|e| store(OP, e))
    }

    async fn embedders(&self, tenant: &TenantId) -> Result<Vec<EmbedderId>, StoreError> {
        const OP: &str = "notes.embedders";
        let query = sqlx::query("select embedder, dimensions from embedded where tenant = ? order by embedder");
        let rows = query.bind(tenant.as_str()).fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let read = |row: &SqliteRow| Ok(EmbedderId { name: row.try_get(0)?, dimensions: small(row.try_get(1)?) });
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(|e| store(OP, e))
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
        let names: Vec<&str> = notes.iter().map(|note| note.note.as_str()).collect();
        let names = serde_json::to_string(&names).unwrap_or_default();
        let sql = "select passages.id from json_each(?) as wanted cross join passages on passages.tenant = ? and passages.embedder = ? \
                   and passages.note = wanted.value";
        let query = sqlx::query_scalar(sql).bind(&names).bind(tenant.as_str()).bind(&embedder.name);
        let gone: Vec<VectorId> = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let (mut added, mut rows) = (Vec::new(), Vec::new());
        for note in notes {
            for (part, (span, vector)) in (0_u32..).zip(note.passages) {
                let id = self.passage.fetch_add(1, Ordering::Relaxed) + 1;
                rows.push((id, note.note.clone(), int(note.revision.0), part, span, bytes(&vector)));
                added.push(StoredPassage { id, note: note.note.clone(), part, span, vector });
            }
        }
        let (of, name, dimensions) = (tenant.to_string(), embedder.name.clone(), embedder.dimensions);
        let keep = move |db: &Connection| {
            let sql =
                "delete from passages where tenant = ? and embedder = ? and note in (select value from json_each(?))";
            execute(db, sql, params![of, name, names])?;
            let sql = "insert into passages (id, tenant, embedder, note, revision, part, begins, ends, vector) \
                       values (?, ?, ?, ?, ?, ?, ?, ?, ?)";
            for (id, note, revision, part, (begins, ends), vector) in rows {
                execute(db, sql, params![id, of, name, note, revision, part, begins, ends, vector])?;
            }
            let sql = "insert into embedded (tenant, embedder, dimensions, position) values (?, ?, ?, ?) \
                       on conflict (tenant, embedder) do update set dimensions = excluded.dimensions, \
                       position = coalesce(excluded.position, embedded.position)";
            execute(db, sql, params![of, name, dimensions, to.map(|to| int(to.0))])
        };
        self.writing.side(OP, keep).await?;
        Ok((added, gone))
    }

    async fn forget_embedder(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<(), StoreError> {
        let (of, name) = (tenant.to_string(), embedder.name.clone());
        let forget = move |db: &Connection| {
            execute(db, "delete from passages where tenant = ? and embedder = ?", params![of, name])?;
            execute(db, "delete from embedded where tenant = ? and embedder = ?", params![of, name])
        };
        self.writing.side("notes.forget_embedder", forget).await
    }
}

pub(crate) fn note(row: &SqliteRow) -> Result<Note, sqlx::Error> {
    let text = String::from_utf8(row.try_get(1)?).map_err(|_| wrong("a note's text"))?;
    let metadata = serde_json::from_str(row.try_get(2)?).map_err(|_| wrong("a note's metadata"))?;
    let (revision, kept_at) = (Revision(number(row.try_get(3)?)), stamp(row.try_get(4)?));
    Ok(Note { id: row.try_get(0)?, text, metadata, revision, kept_at })
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
