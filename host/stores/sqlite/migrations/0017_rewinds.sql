-- Sessions that are taken back, and forks of them. `began`: the session's epoch as a turn began; null: it did not. Turns begin in another order than that of their numbers
-- where several keys speak. `undone`: the session was taken back to before the turn. `holder`: who held the conversation as it began, in JSON.
-- `copied`: up to this number turns are those of the session that it is a fork of. `session_keeps`: what a key of a session's memory held before the
-- turn that began so first changed it; null: nothing.

alter table turns add column began integer;
alter table turns add column undone integer not null default 0;
alter table turns add column holder text;
alter table sessions add column copied integer not null default 0;
update turns set began = number where stage > 0;
update sessions set epoch = max(epoch, turns);
create index turns_begun on turns (tenant, session, began) where began is not null and undone = 0;

create table session_keeps (
    tenant text not null,
    session text not null,
    began integer not null,
    key text not null,
    value blob,
    expires_at integer,
    primary key (tenant, session, began, key)
) strict, without rowid;

create trigger session_keeps_come after insert on session_keeps begin
    select counted(new.tenant, 0, octet_length(new.key) + coalesce(length(new.value), 0) + 128);
end;
create trigger session_keeps_go after delete on session_keeps begin
    select counted(old.tenant, 0, -(octet_length(old.key) + coalesce(length(old.value), 0) + 128));
end;

drop trigger sessions_come;
create trigger sessions_come after insert on sessions begin
    select counted(new.tenant, 0, octet_length(new.settings) + octet_length(new.id) + coalesce(octet_length(new.holder), 0) + 256);
end;

drop trigger turns_come;
create trigger turns_come after insert on turns begin
    select counted(new.tenant, 0, coalesce(octet_length(new.holder), 0) + 128);
end;
drop trigger turns_go;
create trigger turns_go after delete on turns begin
    select counted(old.tenant, 0, -(coalesce(octet_length(old.holder), 0) + 128));
end;
create trigger turns_held after update of holder on turns when old.holder is not new.holder begin
    select counted(new.tenant, 0, coalesce(octet_length(new.holder), 0) - coalesce(octet_length(old.holder), 0));
end;
