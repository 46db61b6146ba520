-- An account's newest entries of a period of business dates [from, to), oldest first, each with the
-- balance after it. What a packet that waits would book does not count. One snapshot: the balance
-- runs back from the one that the account has now. Without entries there is one row.
WITH newest AS MATERIALIZED (
    SELECT *
      FROM core.entry
     WHERE account = $1 AND ($2::date IS NULL OR business_date >= $2)
       AND ($3::date IS NULL OR business_date < $3)
     ORDER BY business_date DESC, booked_at DESC, entry_id DESC
     LIMIT $4
), shown AS (
    SELECT n.*, p.client, p.packet, p.number,
           CASE WHEN p.status = 'waiting' THEN 0 ELSE n.amount END AS counted
      FROM newest AS n
      LEFT JOIN core.packet AS p USING (packet_id)
), now AS MATERIALIZED (
    SELECT a.currency, a.balance - coalesce(l.amount, 0) AS closing
      FROM core.account AS a
     CROSS JOIN LATERAL (
        SELECT sum(e.amount) FILTER (WHERE p.status IS DISTINCT FROM 'waiting') AS amount
          FROM core.entry AS e
          LEFT JOIN core.packet AS p USING (packet_id)
         WHERE e.account = a.account AND e.business_date >= $3) AS l
     WHERE a.account = $1
)
SELECT n.currency, n.closing::bigint,
       s.entry_id, s.business_date, s.value_date, s.booked_at, s.amount,
       s.amount <> s.counted AS waits,
       (n.closing + s.counted - sum(s.counted) OVER (
            ORDER BY s.business_date DESC, s.booked_at DESC, s.entry_id DESC))::bigint
           AS balance_after,
       s.client, s.packet, s.number, s.reference, s.narrative, s.legal_reference, s.posting_id
  FROM now AS n
  LEFT JOIN shown AS s ON true
 ORDER BY s.business_date, s.booked_at, s.entry_id;
