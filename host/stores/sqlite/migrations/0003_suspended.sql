-- Runs that wait for long: when they go on. Of the others a starting host takes up those that are not over.

alter table runs add column wakes_at integer;
create index runs_suspended on runs (wakes_at, id, tenant) where wakes_at is not null;
drop index runs_unfinished;
create index runs_unfinished on runs (id, tenant) where state < 3 and wakes_at is null;
