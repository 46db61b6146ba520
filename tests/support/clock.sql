-- A clock that tests can stop. Installed in test databases only.
create table if not exists ni.test_clock (
    one boolean primary key default true check (one),
    instant timestamptz
);

insert into ni.test_clock (one) values (true) on conflict do nothing;

grant select on ni.test_clock to ni_engine, ni_core;

create or replace function ni.clock() returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog
as $$
begin
    return coalesce((select instant from ni.test_clock), clock_timestamp());
end
$$;
