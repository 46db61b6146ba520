-- Of what a text must go out: events of these accounts and types by which something has changed.
select event_id::text as id, account, sequence, amount, available_after
from torture.told where account = any ($1::text[]) and type = any ($2::text[])
      and amount <> 0
