-- One snapshot of the accounts from number $1 to $2 - 1, core against copy: the rows that differ,
-- and those of them that have no note. A note of everything counts for all.
WITH bounds AS (
    SELECT 'CZ' || lpad($1::bigint::text, 10, '0') AS first,
           'CZ' || lpad($2::bigint::text, 10, '0') AS beyond
), core_rows AS MATERIALIZED (
    SELECT account, kind, currency, status, balance, credit_limit FROM core.account, bounds
     WHERE account >= first COLLATE "C" AND account < beyond COLLATE "C"
), night_rows AS MATERIALIZED (
    SELECT account, kind, currency, status, balance, credit_limit FROM night.account, bounds
     WHERE bucket = 0 AND account >= first COLLATE "C" AND account < beyond COLLATE "C"
), differing AS MATERIALIZED (
    SELECT coalesce(c.account, n.account) AS account
      FROM core_rows AS c FULL JOIN night_rows AS n ON n.account = c.account
     WHERE c IS DISTINCT FROM n
), unnoted AS MATERIALIZED (
    SELECT account FROM differing
     WHERE NOT EXISTS (SELECT FROM night.changed
                        WHERE bucket = 0 AND relation = 'account' AND key = differing.account)
       AND NOT EXISTS (SELECT FROM night.changed
                        WHERE bucket = 0 AND relation = 'account' AND side IS NOT NULL)
)
SELECT (SELECT count(*) FROM differing) AS differing,
       (SELECT count(*) FROM unnoted) AS unnoted,
       ARRAY(SELECT account FROM unnoted LIMIT 5) AS keys;
