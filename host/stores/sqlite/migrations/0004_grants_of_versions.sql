-- What an agent was granted, by version: what was given for one component is not the next one's. `carry`: the rule by which a
-- version that is pushed takes over what the one before was granted. What was granted before this was all versions'.

create table grants_of_versions (
    tenant text not null,
    agent text not null,
    digest blob not null,
    grants text not null,
    carry text not null,
    primary key (tenant, agent, digest)
) strict, without rowid;
insert into grants_of_versions
    select g.tenant, g.agent, a.digest, g.grants, 'never'
    from grants g join agents a on a.tenant = g.tenant and a.name = g.agent;
drop table grants;
alter table grants_of_versions rename to grants;
