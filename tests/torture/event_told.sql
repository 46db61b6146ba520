select event_id::text as id, type, account, sequence, currency, amount, available_after,
       movement_id::text as movement, epoch, times
from torture.told
