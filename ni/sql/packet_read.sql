-- A packet: when it began, what it still owes the core by status and currency, how many of its
-- postings were cancelled. No row: no posting has ever named it.
SELECT f.created_at, k.last_number, u.counts, u.totals,
       (SELECT count(*) FROM ni.posting AS c
         WHERE c.client = $1 AND c.packet = $2 AND c.home AND c.status = 'cancelled') AS cancelled,
       r.booked, r.totals AS booked_totals
  FROM (SELECT p.created_at FROM ni.posting AS p
         WHERE p.client = $1 AND p.packet = $2 AND p.home
         ORDER BY p.posting_id LIMIT 1) AS f
  LEFT JOIN ni.packet AS k ON k.bucket = 0 AND k.client = $1 AND k.packet = $2
 CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(s.status, s.postings) AS counts,
           (SELECT jsonb_object_agg(m.currency, m.total)
              FROM (SELECT q.currency, sum(q.amount) AS total
                      FROM ni.posting AS q
                     WHERE q.client = $1 AND q.packet = $2 AND q.home
                       AND q.status IN ('pending', 'awaiting_acceptance', 'problem')
                     GROUP BY q.currency) AS m) AS totals
      FROM (SELECT p.status, count(*) AS postings
              FROM ni.posting AS p
             WHERE p.client = $1 AND p.packet = $2 AND p.home
               AND p.status IN ('pending', 'awaiting_acceptance', 'problem')
             GROUP BY p.status) AS s) AS u
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(v.booked), 0) AS booked,
           (SELECT jsonb_object_agg(t.currency, t.total)
              FROM (SELECT e.key AS currency, sum(e.value::bigint) AS total
                      FROM ni.unload AS w CROSS JOIN jsonb_each_text(w.totals) AS e
                     WHERE w.bucket = 0 AND w.client = $1 AND w.packet = $2 AND w.accepted
                     GROUP BY e.key) AS t) AS totals
      FROM ni.unload AS v
     WHERE v.bucket = 0 AND v.client = $1 AND v.packet = $2 AND v.accepted) AS r;
