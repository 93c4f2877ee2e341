-- What runs ask people. `of_role`: the smallest role that may answer. `state`: 0 open, 1 answered, 2 withdrawn, 3 its run is over. `question`: as
-- MessagePack; empty once it is not open.

create table questions (
    tenant text not null,
    token text not null,
    run blob not null,
    node text not null,
    by_key text not null,
    asked_at integer not null,
    of_role text not null,
    title text not null,
    state integer not null,
    question blob not null,
    primary key (tenant, token)
) strict;
create index questions_open on questions (tenant, asked_at, token) where state = 0;
create index questions_of_run on questions (tenant, run) where state = 0;

create trigger questions_come after insert on questions begin
    select counted(new.tenant, 0, length(new.question) + octet_length(new.title) + octet_length(new.node) + 192);
end;
create trigger questions_change after update of question on questions begin
    select counted(new.tenant, 0, length(new.question) - length(old.question));
end;
create trigger questions_go after delete on questions begin
    select counted(old.tenant, 0, -(length(old.question) + octet_length(old.title) + octet_length(old.node) + 192));
end;

-- What runs wait for in topics: events of this subject and this type; none: any. `hit`: the place in the log of the newest event since that may be
-- what its run waits for.

create table subscriptions (
    tenant text not null,
    run blob not null,
    node text not null,
    topic text not null,
    subject text,
    kind text,
    hit integer not null default 0,
    primary key (tenant, run, node)
) strict;
create index subscriptions_topic on subscriptions (tenant, topic, subject);

create trigger subscriptions_come after insert on subscriptions begin
    select counted(new.tenant, 0, octet_length(new.node) + octet_length(new.topic) + coalesce(octet_length(new.subject), 0) + 192);
end;
create trigger subscriptions_go after delete on subscriptions begin
    select counted(old.tenant, 0, -(octet_length(old.node) + octet_length(old.topic) + coalesce(octet_length(old.subject), 0) + 192));
end;
