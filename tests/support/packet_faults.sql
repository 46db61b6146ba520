-- Every run of every packet against the core: wholly there or not at all, and nothing twice.
-- $1 and $2: the accounts and their balances at the beginning. Each row returned is a fault.
with leg as (
    select p.posting_id, p.client, p.packet, p.unload_number, p.status, p.currency,
           s.account, s.amount
    from ni.posting p
    cross join lateral (values (p.debit_account, -p.amount), (p.credit_account, p.amount))
               as s (account, amount)
    where p.home and p.status in ('booked', 'awaiting_acceptance')
), entry as (
    select e.posting_id, e.account, e.amount, e.currency, c.client, c.packet, c.number,
           c.status as packet_status
    from core.entry e
    left join core.packet c using (packet_id)
    where e.packet_id is not null
), paired as (
    select coalesce(l.posting_id, e.posting_id) as posting_id,
           coalesce(l.account, e.account) as account,
           l.legs, e.entries
    from (select posting_id, account, amount, currency, client, packet, unload_number as number,
                 case status when 'booked' then 'accepted' else 'waiting' end as packet_status,
                 count(*) as legs
          from leg group by 1, 2, 3, 4, 5, 6, 7, 8) l
    full join (select posting_id, account, amount, currency, client, packet, number,
                      packet_status, count(*) as entries
               from entry group by 1, 2, 3, 4, 5, 6, 7, 8) e
         using (posting_id, account, amount, currency, client, packet, number, packet_status)
), run as (
    select u.*,
           (select count(*) from ni.posting p
             where p.home and p.client = u.client and p.packet = u.packet
                   and p.unload_number = u.number
                   and p.status in ('booked', 'awaiting_acceptance')) as postings_found,
           (select count(*) from ni.problem r
             where r.client = u.client and r.packet = u.packet and r.number = u.number)
               as problems_found,
           (select count(*) from ni.outbox o
             where o.type = 'ni.packet.unloaded' and o.client = u.client and o.packet = u.packet
                   and o.packet_number = u.number) as told
    from ni.unload u
)
select account || ': posting ' || posting_id || ' has ' || coalesce(legs, 0) || ' legs and '
       || coalesce(entries, 0) || ' entries' as fault
from paired where legs is distinct from 1 or entries is distinct from 1
union all
select packet || ' run ' || number || ' ' || status || ': ' || booked || ' booked, '
       || postings_found || ' found; ' || problems || ' problems, ' || problems_found
       || ' found; told ' || told || ' times'
from run
where booked <> postings_found or problems <> problems_found
      or told <> 1
union all
select 'core packet ' || c.packet || ' run ' || c.number || ' is ' || c.status || ', the run is '
       || coalesce(u.status, 'missing')
from core.packet c
full join ni.unload u on u.core_packet_id = c.packet_id
where c.status is distinct from case u.status when 'booked' then 'accepted'
          when 'partly_booked' then 'accepted' when 'awaiting_acceptance' then 'waiting'
          when 'rejected' then 'rejected' when 'none_booked' then c.status end
      or (u.client, u.packet, u.number) is distinct from (c.client, c.packet, c.number)
         and u.core_packet_id is not null
union all
select packet || ': ' || last_number || ' is the last number, ' || count(u.number) || ' runs to '
       || coalesce(max(u.number), 0)
from ni.packet left join ni.unload u using (bucket, client, packet)
group by packet, client, last_number
having last_number <> coalesce(max(u.number), 0) or last_number <> count(u.number)
union all
select posting_id || ': is ' || status || ' with ' || open || ' open problems'
from (select p.posting_id, p.status, count(r.posting_id) as open
      from ni.posting p
      left join ni.problem r on r.posting_id = p.posting_id and r.resolved_at is null
      where p.home group by p.posting_id, p.status) found
where open <> (status = 'problem')::int
union all
select s.posting_id || ': its second row is ' || coalesce(p.status, 'missing') || ', the first '
       || s.status
from (select distinct h.posting_id, h.bucket as home, h.status, h.packet, h.unload_number,
             crc32(convert_to(l.account, 'UTF8')) % i.buckets as bucket
      from ni.posting h
      cross join ni.installation i
      cross join lateral (values (h.debit_account, h.debit_customer),
                                 (h.credit_account, h.credit_customer)) as l (account, customer)
      where h.home and l.customer) s
left join ni.posting p on p.posting_id = s.posting_id and p.bucket = s.bucket and not p.home
where s.bucket <> s.home
      and (p.status is distinct from s.status or p.packet is distinct from s.packet
           or s.status in ('booked', 'awaiting_acceptance')
              and p.unload_number is distinct from s.unload_number)
union all
select p.posting_id || ': is ' || p.status || ', told booked ' || o.told || ' times'
from ni.posting p
left join (select movement_id as posting_id, count(*) as told from ni.outbox
           where type = 'ni.posting.booked' group by movement_id) o using (posting_id)
where p.home and coalesce(o.told, 0) <> (p.status = 'booked')::int
union all
select a.account || ': the core says ' || a.balance || ', its entries '
       || b.balance + coalesce(e.amount, 0)
from core.account a
join unnest($1::text[], $2::bigint[]) as b (account, balance) using (account)
left join (select account, sum(amount) as amount from entry
           where packet_status = 'accepted' group by account) e using (account)
where a.balance <> b.balance + coalesce(e.amount, 0);
