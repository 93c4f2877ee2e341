-- Who holds a session's conversation, in JSON, where it was handed on.

alter table sessions add column holder text;

drop trigger sessions_go;
create trigger sessions_go after delete on sessions begin
    select counted(old.tenant, 0, -(octet_length(old.settings) + octet_length(old.id) + coalesce(octet_length(old.holder), 0) + 256));
end;
create trigger sessions_held after update of holder on sessions when old.holder is not new.holder begin
    select counted(new.tenant, 0, coalesce(octet_length(new.holder), 0) - coalesce(octet_length(old.holder), 0));
end;
