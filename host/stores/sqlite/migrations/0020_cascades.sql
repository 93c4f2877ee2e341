-- What follows from events: which one led to an event (16 bytes of the digest of its `SOURCE ID`), which runs an event started, and of each that had
-- followers how many there were of them, near and far, until a day after the last.

alter table events add column cause blob;
create index events_cause on events (tenant, cause, position) where cause is not null;
create index events_id on events (tenant, id);
create index arrivals_position on arrivals (tenant, position);

create table starts (
    tenant text not null,
    position integer not null,
    trigger_id text not null,
    run blob not null,
    at integer not null,
    primary key (tenant, position, trigger_id, run)
) strict, without rowid;
create index starts_position on starts (position);
create index starts_at on starts (tenant, trigger_id, at);
create trigger starts_come after insert on starts begin
    select counted(new.tenant, 0, octet_length(new.trigger_id) + 128);
end;
create trigger starts_go after delete on starts begin
    select counted(old.tenant, 0, -(octet_length(old.trigger_id) + 128));
end;

create table cascades (
    tenant text not null,
    root blob not null,
    followed integer not null,
    at integer not null,
    primary key (tenant, root)
) strict, without rowid;
create index cascades_at on cascades (tenant, at);
create trigger cascades_come after insert on cascades begin
    select counted(new.tenant, 0, 128);
end;
create trigger cascades_go after delete on cascades begin
    select counted(old.tenant, 0, -128);
end;
