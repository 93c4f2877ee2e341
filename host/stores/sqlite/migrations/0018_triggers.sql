-- Subscriptions that start runs, and the events that they took in. What acts say of one (`digest`, `settings`, `by_key`, `paused_*`) is compared with
-- the ledgers; the rest is what happened since. `position`: up to where its topic was looked through; `newest`: the newest event there. Of an event
-- `key` is what is kept in order, `stage`: 0 waiting, 1 under way, 2 parked, 3 dead. What was seen of late, by source and id, is `seen_events`.

create table triggers (
    tenant text not null,
    id text not null,
    digest blob not null,
    settings text not null,
    by_key text,
    paused_at integer,
    paused_by text,
    paused_why text,
    topic text not null,
    position integer not null,
    replay_to integer not null,
    newest integer not null,
    waiting integer not null,
    started integer not null,
    duplicates integer not null,
    seen integer not null,
    trouble text,
    primary key (tenant, id)
) strict, without rowid;
create index triggers_topic on triggers (tenant, topic);
create index triggers_due on triggers (tenant, id) where paused_at is null and (newest > position or waiting > 0);

create table arrivals (
    tenant text not null,
    trigger_id text not null,
    position integer not null,
    key text not null,
    stage integer not null,
    run blob,
    reason text,
    at integer not null,
    event blob not null,
    primary key (tenant, trigger_id, position)
) strict;
create index arrivals_open on arrivals (tenant, trigger_id, key, position) where stage < 3;
create index arrivals_stage on arrivals (tenant, trigger_id, stage, position);
create index arrivals_run on arrivals (tenant, run) where run is not null;

create table seen_events (
    tenant text not null,
    trigger_id text not null,
    event blob not null,
    position integer not null,
    primary key (tenant, trigger_id, event)
) strict, without rowid;
create index seen_events_position on seen_events (tenant, trigger_id, position);

create trigger triggers_come after insert on triggers begin
    select counted(new.tenant, 0, octet_length(new.settings) + 1024);
end;
create trigger triggers_go after delete on triggers begin
    select counted(old.tenant, 0, -(octet_length(old.settings) + 1024));
end;
create trigger triggers_change after update of settings on triggers begin
    select counted(new.tenant, 0, octet_length(new.settings) - octet_length(old.settings));
end;
create trigger arrivals_come after insert on arrivals begin
    select counted(new.tenant, 0, length(new.event) + octet_length(new.key) + 512);
    update triggers set waiting = waiting + (new.stage = 0) where tenant = new.tenant and id = new.trigger_id;
end;
create trigger arrivals_change after update of stage on arrivals when (new.stage = 0) <> (old.stage = 0) begin
    update triggers set waiting = waiting + (new.stage = 0) - (old.stage = 0) where tenant = new.tenant and id = new.trigger_id;
end;
create trigger arrivals_go after delete on arrivals begin
    select counted(old.tenant, 0, -(length(old.event) + octet_length(old.key) + 512));
    update triggers set waiting = waiting - (old.stage = 0) where tenant = old.tenant and id = old.trigger_id;
end;
create trigger seen_events_come after insert on seen_events begin
    select counted(new.tenant, 0, 96);
end;
create trigger seen_events_go after delete on seen_events begin
    select counted(old.tenant, 0, -96);
end;
