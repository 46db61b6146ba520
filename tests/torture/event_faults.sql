-- What NI's own tables say must have been told, against the book of what was. Each row is a fault.
with newest as (
    select distinct on (bucket, account) account, sequence
    from ni.state
    order by bucket, account, era desc
), told as (
    select account, count(*) as many, count(distinct sequence) as numbers, max(sequence) as highest
    from torture.told where sequence is not null group by account
), sides as (
    select posting_id, debit_account as account, debit_sequence as sequence,
           debit_available_after as available_after, amount
    from ni.posting where home and debit_customer
    union all
    select posting_id, credit_account, credit_sequence, credit_available_after, amount
    from ni.posting where home and credit_customer
), told_of as (
    -- A posting keeps the figures of its last change.
    select s.posting_id, s.account,
           count(*) filter (where t.type in ('ni.posting.created', 'ni.hold.captured')) as created,
           count(*) filter (where t.sequence = s.sequence and t.amount = s.amount
                                  and t.available_after = s.available_after) as latest
    from sides as s
    left join torture.told as t on t.movement_id = s.posting_id and t.account = s.account
    group by s.posting_id, s.account
), fate as (
    select movement_id, count(*) filter (where type = 'ni.posting.booked') as booked,
           count(*) filter (where type = 'ni.posting.problem') as problems
    from torture.told where type in ('ni.posting.booked', 'ni.posting.problem')
    group by movement_id
), placed as (
    select movement_id, count(*) as many
    from torture.told where type = 'ni.hold.placed' group by movement_id
)
select n.account || ': sequence ' || n.sequence || ', told ' || coalesce(t.many, 0) as fault
from newest as n left join told as t using (account)
where n.sequence <> coalesce(t.highest, 0) or n.sequence <> coalesce(t.many, 0)
      or t.many <> t.numbers
union all
select posting_id || ': made ' || created || ' times, last change told ' || latest || ' times to '
       || account
from told_of where created <> 1 or latest <> 1
union all
select h.hold_id || ': hold told ' || coalesce(p.many, 0) || ' times'
from ni.hold as h left join placed as p on p.movement_id = h.hold_id
where coalesce(p.many, 0) <> 1
union all
select p.posting_id || ': ' || p.status || ', told as booked ' || coalesce(f.booked, 0)
       || ' times, as a problem ' || coalesce(f.problems, 0) || ' times'
from ni.posting as p left join fate as f on f.movement_id = p.posting_id
where p.home
      and (coalesce(f.booked, 0) <> (p.status = 'booked')::integer
           or coalesce(f.problems, 0) <> (
               select count(*) from ni.problem as r
               where r.bucket = p.bucket and r.posting_id = p.posting_id))
union all
select 'of ' || w.made || ' ' || w.what || ', told ' || w.told
from (select 'runs of packets' as what, (select count(*) from ni.unload) as made,
             (select count(*) from torture.told where type = 'ni.packet.unloaded'
                                                      and packet <> 'slow') as told
      union all
      select 'switches of the day', (select count(*) from ni.day_switch),
             (select count(*) from torture.told where type like 'ni.day.%')
      union all
      select 'expired holds', (select count(*) from ni.hold where status = 'expired'),
             (select count(*) from torture.told where type = 'ni.hold.expired')) as w
where w.made <> w.told
