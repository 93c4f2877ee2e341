-- Runs that another run began, by that one.

alter table runs add column parent blob;
create index runs_children on runs (tenant, parent, id) where parent is not null;
