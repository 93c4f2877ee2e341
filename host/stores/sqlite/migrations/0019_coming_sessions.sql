-- Sessions about which something is to be done are read tenant by tenant: a tenant's are not between those of others.

drop index sessions_due;
create index sessions_coming on sessions (tenant, due_at, id) where due_at is not null;
