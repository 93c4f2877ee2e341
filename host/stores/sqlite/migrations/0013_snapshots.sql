-- Where runs stood as of an entry of their journals (`at`), which commits to it: whoever takes a run up begins there. The last two of each run are
-- kept (snapshots.rs).

create table snapshots (
    tenant text not null,
    run blob not null,
    at integer not null,
    state blob not null,
    primary key (tenant, run, at)
) strict;

create trigger snapshots_come after insert on snapshots begin
    select counted(new.tenant, 0, length(new.state) + 128);
end;
create trigger snapshots_go after delete on snapshots begin
    select counted(old.tenant, 0, -(length(old.state) + 128));
end;
