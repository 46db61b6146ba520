-- An account's newest entries of a period of business dates [from, to), oldest first, each with the
-- balance after it. What a packet that waits would book does not count. One snapshot: the balance
-- runs back from the one that the account has now. Without entries there is one row.
WITH entry AS MATERIALIZED (
    SELECT e.*, p.client, p.packet, p.number,
           CASE WHEN p.status = 'waiting' THEN 0 ELSE e.amount END AS counted
      FROM core.entry AS e
      LEFT JOIN core.packet AS p USING (packet_id)
     WHERE e.account = $1 AND ($2::date IS NULL OR e.business_date >= $2)
), shown AS (
    SELECT n.*
      FROM (SELECT e.*,
                   sum(e.counted) OVER (
                       ORDER BY e.business_date DESC, e.booked_at DESC, e.entry_id DESC)
                   - e.counted AS later
              FROM entry AS e) AS n
     WHERE $3::date IS NULL OR n.business_date < $3
     ORDER BY n.business_date DESC, n.booked_at DESC, n.entry_id DESC
     LIMIT $4
)
SELECT a.currency,
       (a.balance - coalesce((SELECT sum(e.counted) FROM entry AS e
                               WHERE e.business_date >= $3), 0))::bigint AS closing,
       s.entry_id, s.business_date, s.value_date, s.booked_at, s.amount,
       s.amount <> s.counted AS waits, (a.balance - s.later)::bigint AS balance_after,
       s.client, s.packet, s.number, s.reference, s.narrative, s.legal_reference, s.posting_id
  FROM core.account AS a
  LEFT JOIN shown AS s ON true
 WHERE a.account = $1
 ORDER BY s.business_date, s.booked_at, s.entry_id;
