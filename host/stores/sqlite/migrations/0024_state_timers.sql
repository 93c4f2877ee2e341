-- When agents' states end by themselves: each row follows what is kept of the state, which says so.

create table state_timers (
    tenant text not null,
    agent text not null,
    key text not null,
    due_at integer not null,
    primary key (tenant, agent, key)
) strict, without rowid;
create index state_timers_coming on state_timers (tenant, due_at, agent, key);

create trigger state_timers_come after insert on state_timers begin
    select counted(new.tenant, 0, octet_length(new.agent) + octet_length(new.key) + 128);
end;
create trigger state_timers_go after delete on state_timers begin
    select counted(old.tenant, 0, -(octet_length(old.agent) + octet_length(old.key) + 128));
end;
