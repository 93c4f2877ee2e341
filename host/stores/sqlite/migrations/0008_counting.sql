-- What tenants take on disk is counted by the writer while a transaction runs, and written once at its end: a statement of the
-- triggers for each row took longer than the row. The triggers call `counted` (counts.rs) for each row: a connection without
-- it cannot write to these tables, so that nothing is written or thrown away without being counted. What stands once for each tenant stands in one
-- row, and the rows of the journal one after the other as they were written: a commit writes fewer pages.

drop trigger memory_comes;
drop trigger memory_changes;
drop trigger memory_goes;
drop trigger facts_come;
drop trigger facts_go;
drop trigger notes_come;
drop trigger notes_go;
drop trigger note_metadata_comes;
drop trigger note_metadata_goes;
drop trigger passages_come;
drop trigger passages_go;
drop trigger mail_comes;
drop trigger mail_goes;
drop trigger events_come;
drop trigger events_go;
drop trigger log_comes;
drop trigger log_goes;
drop trigger idempotency_comes;
drop trigger idempotency_goes;
drop trigger agents_come;
drop trigger agents_change;
drop trigger agents_go;
drop trigger grants_come;
drop trigger grants_change;
drop trigger grants_go;
drop trigger workflows_come;
drop trigger workflows_change;
drop trigger workflows_go;
drop trigger keys_come;

-- `besides`: bytes on disk besides journals, whose are `bytes`. `log_rows`, `log_bytes`: what of it are the tenant's rows of the log.
-- `trimmed`: up to where these were thrown away because there were too many. `revision`: the highest that the tenant's changes
-- were drawn; of all before this `meta` has the highest.
alter table chains add column besides integer not null default 0;
alter table chains add column log_rows integer not null default 0;
alter table chains add column log_bytes integer not null default 0;
alter table chains add column trimmed integer not null default 0;
alter table chains add column revision integer not null default 0;
insert into chains (tenant, length, head, besides, log_rows, log_bytes, trimmed)
    select tenant, 0, zeroblob(32), bytes, log_rows, log_bytes, trimmed from usage where true
    on conflict (tenant) do update set besides = excluded.besides, log_rows = excluded.log_rows,
        log_bytes = excluded.log_bytes, trimmed = excluded.trimmed;
drop table usage;

-- One index of the log: by tenant and topic.
drop index log_memory;
drop index log_tenant;
create index log_topic on log (tenant, topic, position);

-- The journal in the order in which it was written, in which a tenant's chain is walked: it needs no index by place.
create table written (
    id integer primary key,
    tenant text not null,
    run blob not null,
    first integer not null,
    last integer not null,
    place integer not null,
    frames blob not null
) strict;
insert into written (tenant, run, first, last, place, frames)
    select tenant, run, first, last, place, frames from journal order by tenant, place;
drop table journal;
alter table written rename to journal;
create unique index journal_run on journal (tenant, run, first);

-- Suspended runs tenant by tenant: those of one that has no room for them are not looked at.
drop index runs_suspended;
create index runs_suspended on runs (tenant, wakes_at, id) where wakes_at is not null;

create trigger memory_comes after insert on memory begin
    select counted(new.tenant, 0, length(new.value) + octet_length(new.key) + octet_length(new.owner) + 64);
end;
create trigger memory_changes after update of value on memory begin
    select counted(new.tenant, 0, length(new.value) - length(old.value));
end;
create trigger memory_goes after delete on memory begin
    select counted(old.tenant, 0, -(length(old.value) + octet_length(old.key) + octet_length(old.owner) + 64));
end;

create trigger facts_come after insert on facts begin
    select counted(new.tenant, 0, length(new.properties) + octet_length(new.subject) + octet_length(new.relation) + octet_length(new.object) + 128);
end;
create trigger facts_go after delete on facts begin
    select counted(old.tenant, 0, -(length(old.properties) + octet_length(old.subject) + octet_length(old.relation) + octet_length(old.object) + 128));
end;

create trigger notes_come after insert on notes begin
    select counted(new.tenant, 0, length(new.text) + octet_length(new.metadata) + octet_length(new.id) + 64);
end;
create trigger notes_go after delete on notes begin
    select counted(old.tenant, 0, -(length(old.text) + octet_length(old.metadata) + octet_length(old.id) + 64));
end;

create trigger note_metadata_comes after insert on note_metadata begin
    select counted(new.tenant, 0, octet_length(new.name) + octet_length(new.value) + octet_length(new.note) + 64);
end;
create trigger note_metadata_goes after delete on note_metadata begin
    select counted(old.tenant, 0, -(octet_length(old.name) + octet_length(old.value) + octet_length(old.note) + 64));
end;

create trigger passages_come after insert on passages begin
    select counted(new.tenant, 0, length(new.vector) + octet_length(new.note) + 128);
end;
create trigger passages_go after delete on passages begin
    select counted(old.tenant, 0, -(length(old.vector) + octet_length(old.note) + 128));
end;

create trigger mail_comes after insert on mail begin
    select counted(new.tenant, 0, length(new.event) + octet_length(new.sender) + 128);
end;
create trigger mail_goes after delete on mail begin
    select counted(old.tenant, 0, -(length(old.event) + octet_length(old.sender) + 128));
end;

create trigger events_come after insert on events begin
    select counted(new.tenant, 0, length(new.event) + octet_length(new.topic) + 64);
end;
create trigger events_go after delete on events begin
    select counted(old.tenant, 0, -(length(old.event) + octet_length(old.topic) + 64));
end;

create trigger log_comes after insert on log begin
    select counted(new.tenant, 1, length(new.delta) + octet_length(new.about) + 64);
end;
create trigger log_goes after delete on log begin
    select counted(old.tenant, -1, -(length(old.delta) + octet_length(old.about) + 64));
end;

create trigger idempotency_comes after insert on idempotency begin
    select counted(new.tenant, 0, octet_length(new.key) + 128);
end;
create trigger idempotency_goes after delete on idempotency begin
    select counted(old.tenant, 0, -(octet_length(old.key) + 128));
end;

create trigger agents_come after insert on agents begin
    select counted(new.tenant, 0, new.size + octet_length(new.manifest) + 128);
end;
create trigger agents_change after update on agents begin
    select counted(new.tenant, 0, new.size + octet_length(new.manifest) - old.size - octet_length(old.manifest));
end;
create trigger agents_go after delete on agents begin
    select counted(old.tenant, 0, -(old.size + octet_length(old.manifest) + 128));
end;

create trigger grants_come after insert on grants begin
    select counted(new.tenant, 0, octet_length(new.grants) + 64);
end;
create trigger grants_change after update on grants begin
    select counted(new.tenant, 0, octet_length(new.grants) - octet_length(old.grants));
end;
create trigger grants_go after delete on grants begin
    select counted(old.tenant, 0, -(octet_length(old.grants) + 64));
end;

create trigger workflows_come after insert on workflows begin
    select counted(new.tenant, 0, octet_length(new.source) + 128);
end;
create trigger workflows_change after update on workflows begin
    select counted(new.tenant, 0, octet_length(new.source) - octet_length(old.source));
end;
create trigger workflows_go after delete on workflows begin
    select counted(old.tenant, 0, -(octet_length(old.source) + 128));
end;

create trigger keys_come after insert on keys begin
    select counted(new.tenant, 0, 256);
end;
create trigger keys_go after delete on keys begin
    select counted(old.tenant, 0, -(256));
end;
