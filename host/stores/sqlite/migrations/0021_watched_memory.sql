-- Subscriptions to changes of memory: `watch` is what the changed keys begin with, as the log says what a change is about (SCOPE/OWNER/KEY), and `topic` is empty.

alter table triggers add column watch text;
create index triggers_watch on triggers (tenant, watch) where watch is not null;
