-- The record. The tenant leads every primary key; what tenants store is a blob.

-- Numbers that must survive: the highest revision ever drawn, and a row that an empty barrier touches.
create table meta (
    key text primary key,
    value integer not null
) strict, without rowid;
insert into meta values ('revision', 0), ('barrier', 0);

-- One row per run and commit: the entries first..last of a run's journal, each with its hash (see frames.rs).
-- `place` is where the first of them stands in the tenant's chain, from 1 on.
create table journal (
    tenant text not null,
    run blob not null,
    first integer not null,
    last integer not null,
    place integer not null,
    frames blob not null,
    primary key (tenant, run, first)
) strict, without rowid;
create unique index journal_chain on journal (tenant, place);

-- The end of each tenant's chain.
create table chains (
    tenant text primary key,
    length integer not null,
    head blob not null
) strict, without rowid;

-- What lists of runs are made of, and what fences a run's owner. `state`: 0 queued, 1 running, 2 waiting, 3 completed,
-- 4 failed, 5 cancelled. `name` is the agent's or the workflow's; `target` says which, and which version.
create table runs (
    tenant text not null,
    id blob not null,
    target text not null,
    name text not null,
    state integer not null,
    session text not null,
    by_key text not null,
    created_at integer not null,
    updated_at integer not null,
    epoch integer not null,
    seq integer not null,
    primary key (tenant, id)
) strict, without rowid;
create index runs_unfinished on runs (id, tenant) where state < 3;
create index runs_ended_badly on runs (tenant, state, id) where state > 3;

create table memory (
    tenant text not null,
    scope integer not null,
    owner text not null,
    key text not null,
    revision integer not null,
    expires_at integer,
    value blob not null,
    primary key (tenant, scope, owner, key)
) strict, without rowid;
create index memory_expiry on memory (expires_at) where expires_at is not null;

create table idempotency (
    tenant text not null,
    key text not null,
    request blob not null,
    run blob not null,
    expires_at integer not null,
    primary key (tenant, key)
) strict, without rowid;
create index idempotency_expiry on idempotency (expires_at);

create table tenants (
    name text primary key,
    created_at integer not null
) strict, without rowid;

create table ceilings (
    tenant text primary key,
    ceiling text not null
) strict, without rowid;

-- By id first: a key is looked up before it is known whose it is.
create table keys (
    id text primary key,
    tenant text not null,
    role text not null,
    hash blob not null,
    created_at integer not null,
    expires_at integer,
    revoked_at integer
) strict, without rowid;
create index keys_tenant on keys (tenant, id);

-- Every version of every agent; `pushed` counts the pushes of a name, the newest is the highest.
create table agents (
    tenant text not null,
    name text not null,
    digest blob not null,
    pushed integer not null,
    manifest text not null,
    exports text not null,
    size integer not null,
    pushed_at integer not null,
    primary key (tenant, name, digest)
) strict, without rowid;
create index agents_newest on agents (tenant, name, pushed);
create index agents_digest on agents (digest);

create table grants (
    tenant text not null,
    agent text not null,
    grants text not null,
    primary key (tenant, agent)
) strict, without rowid;

create table workflows (
    tenant text not null,
    name text not null,
    source text not null,
    digest blob not null,
    updated_at integer not null,
    primary key (tenant, name)
) strict, without rowid;
