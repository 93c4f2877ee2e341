-- How often a run was taken up since it last got on, and whether it was on trial then: 0 no, 1 alone, 2 alone and where it is bounded.
-- `state`: 6 is quarantined.

alter table runs add column taken_up integer not null default 0;
alter table runs add column trial integer not null default 0;
create index runs_taken_up on runs (id, tenant) where taken_up > 0;
