-- Customer accounts up to $1 of them, numbered like those that the bank has.
INSERT INTO core.account (account, kind, currency, balance)
SELECT 'CZ' || lpad(number::text, 10, '0'), 'customer', 'CZK', 10000000000000
  FROM generate_series(0, $1::bigint - 1) AS number
ON CONFLICT DO NOTHING;
