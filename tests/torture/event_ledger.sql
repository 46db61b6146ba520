-- A book of every event that was committed, kept by the database beside the outbox: what has left
-- is compared with it. Nothing of NI reads or writes it.
create schema torture;
create table torture.told (
    event_id uuid primary key, type text not null, account text, sequence bigint,
    currency text, amount bigint, available_after bigint, movement_id uuid, epoch integer,
    packet text,
    times integer not null default 1
);
create function torture.note() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Lap 8 holds what has been noted before.
    insert into torture.told as t (event_id, type, account, sequence, currency, amount,
                                   available_after, movement_id, epoch, packet)
        select n.event_id, n.type, n.account, n.sequence, n.currency, n.amount,
               n.available_after, n.movement_id, n.epoch, n.packet
          from new_rows as n where n.lap <> 8
        on conflict (event_id) do update set times = t.times + 1;
    return null;
end
$$;
create trigger torture_note after insert on ni.outbox
    referencing new table as new_rows for each statement execute function torture.note();
