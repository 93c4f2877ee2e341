-- Tenants that are deleted: since when. What they have goes piece by piece; then the row goes, and the name is free.

alter table tenants add column deleted_at integer;
create index tenants_deleted on tenants (name) where deleted_at is not null;
