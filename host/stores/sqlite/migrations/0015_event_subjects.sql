-- Events of topics by their subject: of many runs that wait each for its own, each reads its own alone. Those up to `subjects_from` have none here.

alter table events add column subject text;
insert into meta values ('subjects_from', (select coalesce(max(position), 0) from events));
create index events_subject on events (tenant, topic, subject, position) where subject is not null;
