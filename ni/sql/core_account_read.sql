-- The core's accounts of these numbers.
SELECT account, kind, currency, balance, credit_limit
FROM core.account WHERE account = ANY ($1::text[]);
