-- A log of the core's own changes, kept by triggers: which transaction made each, and what that
-- transaction could see when it made it. The first lines are the core as it was found.
create table core.test_log (
    line      bigint generated always as identity primary key,
    xid       xid8 not null default pg_current_xact_id(),
    seen      pg_snapshot not null default pg_current_snapshot(),
    made_by   text not null default session_user,
    relation  text not null,
    key       text not null,
    account   text not null,
    row_after jsonb
);

create function core.test_log_change() returns trigger
language plpgsql security definer set search_path = pg_catalog
as $$
declare
    v_key text;
begin
    if tg_table_name = 'account' and tg_op = 'UPDATE' then
        if to_jsonb(old) - 'balance' = to_jsonb(new) - 'balance' then
            return null;
        end if;
    end if;
    v_key := case tg_table_name when 'block' then to_jsonb(coalesce(new, old)) ->> 'block_id'
                                else to_jsonb(coalesce(new, old)) ->> 'account' end;
    insert into core.test_log (relation, key, account, row_after)
    values (tg_table_name, v_key, to_jsonb(coalesce(new, old)) ->> 'account',
            case when tg_op = 'DELETE' then null else to_jsonb(new) end);
    return null;
end
$$;

create trigger test_log after insert or update or delete on core.account
    for each row execute function core.test_log_change();
create trigger test_log after insert or update or delete on core.block
    for each row execute function core.test_log_change();

insert into core.test_log (relation, key, account, row_after)
    select 'account', a.account, a.account, to_jsonb(a) from core.account a;
