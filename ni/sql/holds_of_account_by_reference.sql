-- An account's holds with a reference, before an id, newest first.
SELECT * FROM (
    SELECT bucket, hold_id, client, account, currency, amount, captured, released,
           CASE WHEN status = 'active' AND expires_at <= ni.clock() THEN 'expired'
                ELSE status END AS status,
           kind, expires_at, reference, narrative, actor, original_amount, original_currency,
           legal_reference, available_after, sequence, epoch, created_at, changed_at
      FROM ni.hold
     WHERE bucket = $1 AND account = $2
       AND reference = $4
       AND hold_id < coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)) AS h
 WHERE $3::text IS NULL OR h.status = $3
 ORDER BY h.hold_id DESC
 LIMIT $6;
