-- Keys in which copy and core differ, in one snapshot, and whether a note says so.
WITH core_rows AS (
    SELECT 'account' AS relation, ni.bucket_of(a.account) AS bucket, a.account AS key,
           ROW(a.kind, a.currency, a.status, a.balance, a.credit_limit)::text AS content
      FROM core.account AS a
    UNION ALL
    SELECT 'block', ni.bucket_of(b.account), b.block_id::text,
           ROW(b.account, b.side, b.legal_reference, b.valid_from, b.valid_to)::text
      FROM core.block AS b
    UNION ALL
    SELECT 'ledger', 0, l.one::text, ROW(l.business_date, l.next_business_date)::text
      FROM core.ledger AS l
), night_rows AS (
    SELECT 'account' AS relation, a.bucket, a.account AS key,
           ROW(a.kind, a.currency, a.status, a.balance, a.credit_limit)::text AS content
      FROM night.account AS a
    UNION ALL
    SELECT 'block', b.bucket, b.block_id,
           ROW(b.account, b.side, b.legal_reference, b.valid_from, b.valid_to)::text
      FROM night.block AS b
    UNION ALL
    SELECT 'ledger', l.bucket, l.ledger, ROW(l.business_date, l.next_business_date)::text
      FROM night.ledger AS l
)
SELECT relation, key, c.content AS core, n.content AS night,
       EXISTS (SELECT FROM night.changed AS t
                WHERE t.relation = d.relation
                  AND (t.side IS NOT NULL OR t.bucket = d.bucket AND t.key = d.key)) AS noted
  FROM (SELECT relation, bucket, key FROM core_rows UNION SELECT relation, bucket, key
          FROM night_rows) AS d
  LEFT JOIN core_rows AS c USING (relation, bucket, key)
  LEFT JOIN night_rows AS n USING (relation, bucket, key)
 WHERE c.content IS DISTINCT FROM n.content
 ORDER BY relation, key COLLATE "C";
