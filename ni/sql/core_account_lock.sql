-- The core's accounts of these numbers, locked in account order until the transaction ends.
SELECT account, kind, currency, balance, credit_limit, status, customer_id
FROM core.account WHERE account = ANY ($1::text[]) ORDER BY account FOR UPDATE;
