-- One snapshot of both sides at once: what must hold between any two commits, packets or not.
-- $1 is the sum of all core balances at the beginning. Each row returned is a fault.
with newest as (
    select distinct on (bucket, account) * from ni.state order by bucket, account, era desc
), unbooked as (
    select debit_account, credit_account, debit_customer, credit_customer, amount
    from ni.posting
    where home and packet is not null and status in ('pending', 'awaiting_acceptance', 'problem')
    union all
    select debit_account, credit_account, debit_customer, credit_customer, amount
    from ni.posting
    where home and straight_through and status = 'pending' and packet is null
), leg as (
    select debit_account as account, -amount as amount from unbooked
    union all
    select credit_account, amount from unbooked
), owed as (
    select account, sum(amount) as amount from leg group by account
), figures as (
    select a.account, a.kind, a.balance, coalesce(o.amount, 0) as owed, s.sequence,
           case when a.kind = 'customer'
                then coalesce(s.created, 0) - coalesce(p.applied, 0)
                else coalesce(o.amount, 0) end as pending,
           a.balance + a.credit_limit + s.created - coalesce(p.applied, 0) - s.held as available,
           (select e.available_after from ni.outbox e
             where e.account = a.account and e.sequence = s.sequence
                   and e.type not like '%refused' limit 1) as told
    from core.account a
    left join newest s using (account)
    left join ni.applied p using (account)
    left join owed o using (account)
)
select account || ': pending ' || pending || ', postings say ' || owed as fault
from figures where pending <> owed
union all
select account || ': available ' || available || ', told ' || coalesce(told, 0)
       || ' with sequence ' || sequence
from figures where sequence > 0 and available is distinct from told
union all
select 'all money: ' || sum(balance + pending) || ', it was ' || $1::bigint
from figures having sum(balance + pending) <> $1::bigint;
