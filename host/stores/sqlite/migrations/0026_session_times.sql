-- When the first of a tenant's sessions is due, by that: of tenants with sessions about which nothing is to be done yet no row is read.

create table session_times (
    tenant text primary key,
    due_at integer not null
) strict, without rowid;
create index session_times_due on session_times (due_at, tenant);
insert into session_times select tenant, min(due_at) from sessions where due_at is not null group by tenant;

create trigger sessions_timed after insert on sessions when new.due_at is not null begin
    insert into session_times (tenant, due_at) values (new.tenant, new.due_at)
        on conflict (tenant) do update set due_at = min(due_at, excluded.due_at);
end;
create trigger sessions_retimed after update of due_at on sessions when old.due_at is not new.due_at begin
    delete from session_times where tenant = new.tenant;
    insert into session_times select tenant, due_at from sessions indexed by sessions_coming
        where tenant = new.tenant and due_at is not null order by due_at limit 1;
end;
create trigger sessions_untimed after delete on sessions when old.due_at is not null begin
    delete from session_times where tenant = old.tenant;
    insert into session_times select tenant, due_at from sessions indexed by sessions_coming
        where tenant = old.tenant and due_at is not null order by due_at limit 1;
end;
