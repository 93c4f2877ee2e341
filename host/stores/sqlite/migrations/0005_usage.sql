-- What each tenant takes on disk, in bytes: its rows and 64 bytes for the place of each. Kept by triggers, so that nothing is
-- written or thrown away without being counted. Journals only grow: what they take stands at the end of the tenant's chain, with
-- 512 bytes for the row of each run.

alter table chains add column bytes integer not null default 0;
update chains set bytes =
    coalesce((select sum(length(frames) + 64) from journal where journal.tenant = chains.tenant), 0)
    + 512 * (select count(*) from runs where runs.tenant = chains.tenant);

-- `log_rows` and `log_bytes`: what of it is the tenant's rows of the log; `trimmed`: up to where these were thrown away because there
-- were too many.
create table usage (
    tenant text primary key,
    bytes integer not null,
    log_rows integer not null default 0,
    log_bytes integer not null default 0,
    trimmed integer not null default 0
) strict, without rowid;
insert into usage (tenant, bytes) select tenant, sum(bytes) from (
    select tenant, length(value) + octet_length(key) + octet_length(owner) + 64 as bytes from memory
    union all select tenant, length(properties) + octet_length(subject) + octet_length(relation) + octet_length(object) + 128 from facts
    union all select tenant, length(text) + octet_length(metadata) + octet_length(id) + 64 from notes
    union all select tenant, octet_length(name) + octet_length(value) + octet_length(note) + 64 from note_metadata
    union all select tenant, length(vector) + octet_length(note) + 128 from passages
    union all select tenant, length(event) + octet_length(sender) + 128 from mail
    union all select tenant, length(event) + octet_length(topic) + 64 from events
    union all select tenant, length(delta) + octet_length(about) + 64 from log
    union all select tenant, octet_length(key) + 128 from idempotency
    union all select tenant, size + octet_length(manifest) + 128 from agents
    union all select tenant, octet_length(grants) + 64 from grants
    union all select tenant, octet_length(source) + 128 from workflows
    union all select tenant, 256 from keys
) group by tenant;
create index log_tenant on log (tenant, position);
update usage set log_rows = (select count(*) from log where log.tenant = usage.tenant), log_bytes =
    coalesce((select sum(length(delta) + octet_length(about) + 64) from log where log.tenant = usage.tenant), 0);

create trigger memory_comes after insert on memory begin
    insert into usage (tenant, bytes) values (new.tenant, length(new.value) + octet_length(new.key) + octet_length(new.owner) + 64)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger memory_changes after update of value on memory begin
    update usage set bytes = bytes + length(new.value) - length(old.value) where tenant = new.tenant;
end;
create trigger memory_goes after delete on memory begin
    update usage set bytes = bytes - length(old.value) - octet_length(old.key) - octet_length(old.owner) - 64 where tenant = old.tenant;
end;

create trigger facts_come after insert on facts begin
    insert into usage (tenant, bytes) values (new.tenant, length(new.properties) + octet_length(new.subject) + octet_length(new.relation) + octet_length(new.object) + 128)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger facts_go after delete on facts begin
    update usage set bytes = bytes - length(old.properties) - octet_length(old.subject) - octet_length(old.relation) - octet_length(old.object) - 128
    where tenant = old.tenant;
end;

create trigger notes_come after insert on notes begin
    insert into usage (tenant, bytes) values (new.tenant, length(new.text) + octet_length(new.metadata) + octet_length(new.id) + 64)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger notes_go after delete on notes begin
    update usage set bytes = bytes - length(old.text) - octet_length(old.metadata) - octet_length(old.id) - 64 where tenant = old.tenant;
end;

create trigger note_metadata_comes after insert on note_metadata begin
    insert into usage (tenant, bytes) values (new.tenant, octet_length(new.name) + octet_length(new.value) + octet_length(new.note) + 64)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger note_metadata_goes after delete on note_metadata begin
    update usage set bytes = bytes - octet_length(old.name) - octet_length(old.value) - octet_length(old.note) - 64 where tenant = old.tenant;
end;

create trigger passages_come after insert on passages begin
    insert into usage (tenant, bytes) values (new.tenant, length(new.vector) + octet_length(new.note) + 128)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger passages_go after delete on passages begin
    update usage set bytes = bytes - length(old.vector) - octet_length(old.note) - 128 where tenant = old.tenant;
end;

create trigger mail_comes after insert on mail begin
    insert into usage (tenant, bytes) values (new.tenant, length(new.event) + octet_length(new.sender) + 128)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger mail_goes after delete on mail begin
    update usage set bytes = bytes - length(old.event) - octet_length(old.sender) - 128 where tenant = old.tenant;
end;

create trigger events_come after insert on events begin
    insert into usage (tenant, bytes) values (new.tenant, length(new.event) + octet_length(new.topic) + 64)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger events_go after delete on events begin
    update usage set bytes = bytes - length(old.event) - octet_length(old.topic) - 64 where tenant = old.tenant;
end;

create trigger log_comes after insert on log begin
    insert into usage (tenant, bytes, log_rows, log_bytes) values (new.tenant, length(new.delta) + octet_length(new.about) + 64,
        1, length(new.delta) + octet_length(new.about) + 64)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes, log_rows = log_rows + 1, log_bytes = log_bytes + excluded.log_bytes;
end;
create trigger log_goes after delete on log begin
    update usage set bytes = bytes - length(old.delta) - octet_length(old.about) - 64, log_rows = log_rows - 1,
        log_bytes = log_bytes - length(old.delta) - octet_length(old.about) - 64
    where tenant = old.tenant;
end;

create trigger idempotency_comes after insert on idempotency begin
    insert into usage (tenant, bytes) values (new.tenant, octet_length(new.key) + 128)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger idempotency_goes after delete on idempotency begin
    update usage set bytes = bytes - octet_length(old.key) - 128 where tenant = old.tenant;
end;

-- The component itself is a file beside the record.
create trigger agents_come after insert on agents begin
    insert into usage (tenant, bytes) values (new.tenant, new.size + octet_length(new.manifest) + 128)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger agents_change after update on agents begin
    update usage set bytes = bytes + new.size + octet_length(new.manifest) - old.size - octet_length(old.manifest) where tenant = new.tenant;
end;
create trigger agents_go after delete on agents begin
    update usage set bytes = bytes - old.size - octet_length(old.manifest) - 128 where tenant = old.tenant;
end;

create trigger grants_come after insert on grants begin
    insert into usage (tenant, bytes) values (new.tenant, octet_length(new.grants) + 64)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger grants_change after update on grants begin
    update usage set bytes = bytes + octet_length(new.grants) - octet_length(old.grants) where tenant = new.tenant;
end;
create trigger grants_go after delete on grants begin
    update usage set bytes = bytes - octet_length(old.grants) - 64 where tenant = old.tenant;
end;

create trigger workflows_come after insert on workflows begin
    insert into usage (tenant, bytes) values (new.tenant, octet_length(new.source) + 128)
    on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
create trigger workflows_change after update on workflows begin
    update usage set bytes = bytes + octet_length(new.source) - octet_length(old.source) where tenant = new.tenant;
end;
create trigger workflows_go after delete on workflows begin
    update usage set bytes = bytes - octet_length(old.source) - 128 where tenant = old.tenant;
end;

create trigger keys_come after insert on keys begin
    insert into usage (tenant, bytes) values (new.tenant, 256) on conflict (tenant) do update set bytes = bytes + excluded.bytes;
end;
