-- Sessions and their turns. What acts say of a session (`by_key`, `opened_at`, `settings`) is compared with the ledgers; the rest follows its turns,
-- and these the journals of their runs. `standing`: 0 open, 1 closing, 2 closed, 3 expired. `active`: the run of the turn at work. `stage`: 0 queued,
-- 1 active, 2 over.

create table sessions (
    tenant text not null,
    id text not null,
    by_key text not null,
    opened_at integer not null,
    settings text not null,
    standing integer not null,
    epoch integer not null,
    turns integer not null,
    active blob,
    active_number integer,
    active_since integer,
    queued integer not null,
    interrupted integer not null,
    last_at integer not null,
    due_at integer,
    primary key (tenant, id)
) strict;
create index sessions_newest on sessions (tenant, opened_at, id);
create index sessions_due on sessions (due_at) where due_at is not null;

create table turns (
    tenant text not null,
    session text not null,
    number integer not null,
    run blob not null,
    by_key text not null,
    stage integer not null,
    primary key (tenant, session, number)
) strict, without rowid;
create index turns_queued on turns (tenant, session, number) where stage = 0;
create index turns_served on turns (tenant, session, by_key, number) where stage > 0;

alter table runs add column turn integer;

create trigger sessions_come after insert on sessions begin
    select counted(new.tenant, 0, octet_length(new.settings) + octet_length(new.id) + 256);
end;
create trigger sessions_go after delete on sessions begin
    select counted(old.tenant, 0, -(octet_length(old.settings) + octet_length(old.id) + 256));
end;
create trigger turns_come after insert on turns begin
    select counted(new.tenant, 0, 128);
end;
create trigger turns_go after delete on turns begin
    select counted(old.tenant, 0, -128);
end;
