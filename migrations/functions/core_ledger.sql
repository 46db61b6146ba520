-- What the reference core may ask NI. Its role, ni_core, sees no table of ni.

-- Of the accounts given (customers' apart from the others), those without any movement of NI.
-- The positions of the customers among them stay locked until the transaction ends, so that no
-- decision can begin on an account while its opening balance is being set. Call it last, after the
-- accounts' own rows are locked: a decision that waits for the position must not wait for long.
CREATE OR REPLACE FUNCTION core.unmoved_accounts(p_customers text[], p_others text[])
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- sorted, so that two of these cannot deadlock with each other or with a decision
    INSERT INTO ni.position (bucket, account)
    SELECT ni.bucket_of(c.account), c.account
    FROM unnest(p_customers) AS c (account)
    ORDER BY ni.bucket_of(c.account), c.account COLLATE "C"
    ON CONFLICT DO NOTHING;

    PERFORM FROM ni.position AS p
    JOIN unnest(p_customers) AS c (account)
      ON p.bucket = ni.bucket_of(c.account) AND p.account = c.account
    ORDER BY p.bucket, p.account
    FOR NO KEY UPDATE OF p;

    -- a later statement than the lock: it sees what the last decision has committed
    RETURN QUERY
    SELECT c.account FROM unnest(p_customers) AS c (account)
    WHERE NOT EXISTS (SELECT FROM ni.state AS s
                      WHERE s.bucket = ni.bucket_of(c.account) AND s.account = c.account)
    UNION ALL
    SELECT o.account FROM unnest(p_others) AS o (account)
    WHERE NOT EXISTS (
        SELECT FROM ni.installation AS i,
                    generate_series(0, i.buckets - 1) AS b (bucket),
                    LATERAL (SELECT FROM ni.posting AS p
                             WHERE p.bucket = b.bucket::smallint AND p.debit_account = o.account
                             UNION ALL
                             SELECT FROM ni.posting AS p
                             WHERE p.bucket = b.bucket::smallint AND p.credit_account = o.account
                             ) AS posting);
END
$$;

REVOKE ALL ON FUNCTION core.unmoved_accounts(text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION core.unmoved_accounts(text[], text[]) TO ni_core;

-- The core's blocks begin and end by the clock that decisions go by.
GRANT USAGE ON SCHEMA ni TO ni_core;
GRANT EXECUTE ON FUNCTION ni.clock() TO ni_core;
