-- Events that start a run together: how many started nothing, for a later one of their key did.

alter table triggers add column superseded integer not null default 0;
