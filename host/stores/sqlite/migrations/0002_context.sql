-- Shared context: the log of changes, and what it adds up to. What tenants store is a blob.

-- How far the log went before what was thrown away of it.
insert into meta values ('trimmed', 0);

-- Every delta, in the order in which they became true. `topic`: 0 memory, 1 graph, 2 recall, 3 messages, 4 runs.
-- `about` is, of a change of memory, SCOPE/OWNER/KEY: what watchers ask by; empty otherwise.
create table log (
    position integer primary key,
    tenant text not null,
    topic integer not null,
    about text not null,
    at integer not null,
    delta blob not null
) strict;
create index log_memory on log (tenant, position) where topic = 0;

-- Facts, those that are over too.
create table facts (
    tenant text not null,
    id integer not null,
    subject text not null,
    relation text not null,
    object text not null,
    properties blob not null,
    valid_from integer not null,
    valid_to integer,
    recorded_at integer not null,
    ended_at integer,
    primary key (tenant, id)
) strict, without rowid;
create index facts_subject on facts (tenant, subject, relation, id);
create index facts_object on facts (tenant, object, relation, id);

create table notes (
    tenant text not null,
    id text not null,
    revision integer not null,
    kept_at integer not null,
    metadata text not null,
    text blob not null,
    primary key (tenant, id)
) strict, without rowid;
create table note_metadata (
    tenant text not null,
    name text not null,
    value text not null,
    note text not null,
    primary key (tenant, name, value, note)
) strict, without rowid;
create index note_metadata_note on note_metadata (tenant, note);

-- What was made of notes: passages with their vectors (32-bit floats, little-endian). Made again from the notes at any time.
create table passages (
    id integer primary key,
    tenant text not null,
    embedder text not null,
    note text not null,
    revision integer not null,
    part integer not null,
    begins integer not null,
    ends integer not null,
    vector blob not null
) strict;
create index passages_note on passages (tenant, embedder, note);
create index passages_id on passages (tenant, embedder, id);
create table embedded (
    tenant text not null,
    embedder text not null,
    dimensions integer not null,
    position integer,
    primary key (tenant, embedder)
) strict, without rowid;

-- Mailboxes. A message is waiting, or in the hands of an attempt, or a dead letter (`dead_at`).
create table mail (
    tenant text not null,
    agent text not null,
    position integer not null,
    id integer not null,
    sender text not null,
    deliveries integer not null,
    taker text,
    dead_at integer,
    dead_reason text,
    event blob not null,
    primary key (tenant, agent, position)
) strict, without rowid;
create unique index mail_id on mail (tenant, id);
create index mail_taker on mail (tenant, taker) where taker is not null;
create index mail_dead on mail (tenant, id) where dead_at is not null;

create table events (
    tenant text not null,
    topic text not null,
    position integer not null,
    id integer not null,
    event blob not null,
    primary key (tenant, topic, position)
) strict, without rowid;
create index events_position on events (position);
