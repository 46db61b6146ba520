-- What every movement of an account comes to, of the movements alone: postings that were not
-- cancelled, and holds. No base, no counter and no state is read.
select account, coalesce(moved, 0) - coalesce(locked, 0) as net
from unnest($1::text[]) as x (account)
left join lateral (
    select sum(case when p.credit_account = x.account then p.amount else -p.amount end) as moved
    from ni.posting p
    where p.home and p.status <> 'cancelled'
          and x.account in (p.debit_account, p.credit_account)) as m on true
left join lateral (
    select sum(h.amount - h.captured - h.released) as locked
    from ni.hold h where h.account = x.account and h.status = 'active') as l on true;
