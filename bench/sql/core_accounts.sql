-- Customer accounts numbered from 0 to $1 - 1, rich enough for every load: 10^13 minor units.
INSERT INTO core.account (account, kind, currency, balance)
SELECT 'CZ' || lpad(number::text, 10, '0'), 'customer', 'CZK', 10000000000000
  FROM generate_series(0, $1::bigint - 1) AS number;
