-- Notes what became of tries, account by account in the order in which everybody locks them; by the
-- place in the arrays: whether the lease was still held.
SELECT t.place, ni.sms_settle_v1(t.bucket, t.event_id, t.account, t.lease, t.outcome, t.reason,
                                 t.pause_ms, t.counts) AS ours
  FROM (SELECT *
          FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[],
                      $7::integer[], $8::boolean[]) WITH ORDINALITY
            AS g (bucket, event_id, account, lease, outcome, reason, pause_ms, counts, place)
         ORDER BY g.bucket, g.account COLLATE "C") AS t
