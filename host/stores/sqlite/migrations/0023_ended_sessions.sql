-- How a session ends. `closed_at`: since when it takes no more turns. `summary`: the number of the turn that sums it up. `memory`: what became of its
-- memory: 0 it is too large for an archive, 1 archived, 2 forgotten; null: nothing. `session_archives`: what the memory of a session held, as the ledger has it.

alter table sessions add column closed_at integer;
alter table sessions add column summary integer;
alter table sessions add column memory integer;

create trigger sessions_set after update of settings on sessions when old.settings is not new.settings begin
    select counted(new.tenant, 0, octet_length(new.settings) - octet_length(old.settings));
end;

create table session_archives (
    tenant text not null,
    id text not null,
    document text not null,
    primary key (tenant, id)
) strict;
create trigger session_archives_come after insert on session_archives begin
    select counted(new.tenant, 0, octet_length(new.document) + octet_length(new.id) + 128);
end;
create trigger session_archives_go after delete on session_archives begin
    select counted(old.tenant, 0, -(octet_length(old.document) + octet_length(old.id) + 128));
end;
