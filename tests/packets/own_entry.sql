-- An entry of the core's own, and what would make it one of NI's packet $1 or posting $2.
insert into core.entry (account, amount, currency, value_date, business_date, booked_at,
                        packet_id, posting_id)
select 'OWN', 100, 'CZK', business_date, business_date, now(), $1, $2 from core.ledger;
