-- Gives accounts another balance, limit, status and customer; returns those that are there.
UPDATE core.account AS a
SET balance = line.balance, credit_limit = line.credit_limit, status = line.status,
    customer_id = line.customer_id
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
    AS line (account, balance, credit_limit, status, customer_id)
WHERE a.account = line.account RETURNING a.account;
