-- An account as the core has it.
SELECT account, kind, currency, status, balance, credit_limit, customer_id, opened_at
FROM core.account WHERE account = $1;
