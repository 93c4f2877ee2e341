-- Schedules of workflows' documents: when each comes, and what became of its ticks. `digest`: of all that the document says of it. `next`: the
-- first tick that was not dealt with. `by_key`: in whose name it starts runs. `trouble`: in JSON, what is to be told of a tick that
-- was not started at once. What acts say (all up to `paused_why`) is compared with the ledgers; the rest is what happened since.

create table schedules (
    tenant text not null,
    workflow text not null,
    number integer not null,
    digest blob not null,
    timing text not null,
    by_key text,
    paused_at integer,
    paused_by text,
    paused_why text,
    next integer not null,
    last_run blob,
    last_tick integer,
    started integer not null,
    skipped integer not null,
    missed integer not null,
    trouble text,
    primary key (tenant, workflow, number)
) strict, without rowid;
create index schedules_coming on schedules (tenant, next, workflow, number) where paused_at is null;

-- All that is in a row is bounded.
create trigger schedules_come after insert on schedules begin
    select counted(new.tenant, 0, 1024);
end;
create trigger schedules_go after delete on schedules begin
    select counted(old.tenant, 0, -1024);
end;
