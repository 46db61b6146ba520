-- Opens accounts; returns those that were not there yet.
INSERT INTO core.account (account, kind, currency, balance, credit_limit, status, customer_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[],
                     $7::text[])
    AS line (account, kind, currency, balance, credit_limit, status, customer_id)
ORDER BY line.account COLLATE "C"
ON CONFLICT (account) DO NOTHING RETURNING account;
