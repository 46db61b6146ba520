-- What must hold at every moment, recomputed from the movements. Each row returned is a fault.
-- Figures of an account are those of its newest era.
with newest as (
    select distinct on (bucket, account) *
    from ni.state
    order by bucket, account, era desc
), legs as (
    select debit_account as account, -amount as amount
    from ni.posting where home and debit_customer and status <> 'cancelled'
    union all
    select credit_account, amount
    from ni.posting where home and credit_customer and status <> 'cancelled'
), created as (
    select account, sum(amount) as created from legs group by account
), held as (
    select account, sum(amount - captured - released) as held
    from ni.hold where status = 'active' group by account
), owed as (
    select client, coalesce(packet, '') as packet, status, bucket, posting_id, straight_through,
           amount, currency, case when not debit_customer then debit_account end as debit_internal,
           case when not credit_customer then credit_account end as credit_internal
    from ni.posting where home and status <> 'booked'
), kept as (
    select client, packet, status, bucket, posting_id, straight_through, amount, currency,
           debit_internal, credit_internal
    from ni.unbooked
), events as (
    select account, count(*) as many, count(distinct sequence) as numbers,
           min(sequence) as lowest, max(sequence) as highest
    from ni.outbox where sequence > 0 and type not like '%refused' group by account
), figures as (
    select s.account, s.created, s.held, s.sequence,
           coalesce(c.created, 0) as created_found, coalesce(h.held, 0) as held_found,
           e.many, e.numbers, e.lowest, e.highest,
           a.balance + a.credit_limit + s.created - coalesce(p.applied, 0) - s.held as available
    from newest s
    left join created c using (account)
    left join held h using (account)
    left join events e using (account)
    left join ni.applied p using (account)
    join core.account a using (account)
)
select account || ': created ' || created || ', postings say ' || created_found as fault
from figures where created <> created_found
union all
select account || ': held ' || held || ', holds say ' || held_found
from figures where held <> held_found
union all
select account || ': sequence ' || sequence || ', events ' || coalesce(lowest, 0) || ' to '
       || coalesce(highest, 0) || ', ' || coalesce(many, 0) || ' of them'
from figures
where sequence <> coalesce(highest, 0) or many <> numbers or many <> highest - lowest + 1
      or lowest <> 1
union all
select l.account || ': has movements and no state'
from (select account from created union select account from held) l
where not exists (select from newest s where s.account = l.account)
union all
select account || ': available ' || available || ' is below its limit'
from figures
where available < 0
      and not exists (select from ni.posting p
                      where figures.account in (p.debit_account, p.credit_account)
                            and p.check_mode = 'none')
union all
select posting_id || ': is ' || status || ' and not kept so among the unbooked'
from (select * from owed except select * from kept) o
union all
select posting_id || ': is kept among the unbooked as ' || status || ' and is not so'
from (select * from kept except select * from owed) k;
