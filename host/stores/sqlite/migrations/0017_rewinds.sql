-- Sessions that are taken back, and forks of them. `session_keeps`: what a key of a session's memory held before turn `turn` first changed it; null:
-- nothing. `undone`: the session was taken back to before the turn. `holder`: who held the conversation as it began, in JSON.
-- `copied`: so many of its turns are those of the session that it is a fork of.

create table session_keeps (
    tenant text not null,
    session text not null,
    turn integer not null,
    key text not null,
    value blob,
    expires_at integer,
    primary key (tenant, session, turn, key)
) strict, without rowid;

alter table turns add column undone integer not null default 0;
alter table turns add column holder text;
alter table sessions add column copied integer not null default 0;

create trigger session_keeps_come after insert on session_keeps begin
    select counted(new.tenant, 0, octet_length(new.key) + coalesce(length(new.value), 0) + 128);
end;
create trigger session_keeps_go after delete on session_keeps begin
    select counted(old.tenant, 0, -(octet_length(old.key) + coalesce(length(old.value), 0) + 128));
end;
