-- A packet: when it began, what it still owes the core by status and currency, how many of its
-- postings were cancelled. No row: no posting has ever named it.
SELECT f.created_at, k.last_number, u.counts, u.totals, u.cancelled, r.booked,
       r.totals AS booked_totals
  FROM (SELECT p.created_at FROM ni.posting AS p
         WHERE p.client = $1 AND p.packet = $2 AND p.home
         ORDER BY p.posting_id LIMIT 1) AS f
  LEFT JOIN ni.packet AS k ON k.bucket = 0 AND k.client = $1 AND k.packet = $2
 CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(s.status, s.postings) FILTER (WHERE s.status <> 'cancelled') AS counts,
           coalesce(max(s.postings) FILTER (WHERE s.status = 'cancelled'), 0) AS cancelled,
           (SELECT jsonb_object_agg(m.currency, m.total)
              FROM (SELECT q.currency, sum(q.amount) AS total
                      FROM ni.unbooked AS q
                     WHERE q.bucket = ANY (ni.buckets_v1()) AND q.client = $1 AND q.packet = $2
                       AND q.status IN ('pending', 'awaiting_acceptance', 'problem')
                     GROUP BY q.currency) AS m) AS totals
      FROM (SELECT n.status, count(*) AS postings
              FROM ni.unbooked AS n
             WHERE n.bucket = ANY (ni.buckets_v1()) AND n.client = $1 AND n.packet = $2
             GROUP BY n.status) AS s) AS u
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(v.booked), 0) AS booked,
           (SELECT jsonb_object_agg(t.currency, t.total)
              FROM (SELECT e.key AS currency, sum(e.value::bigint) AS total
                      FROM ni.unload AS w CROSS JOIN jsonb_each_text(w.totals) AS e
                     WHERE w.bucket = 0 AND w.client = $1 AND w.packet = $2 AND w.accepted
                     GROUP BY e.key) AS t) AS totals
      FROM ni.unload AS v
     WHERE v.bucket = 0 AND v.client = $1 AND v.packet = $2 AND v.accepted) AS r;
