-- A hold by id, expired from its instant on whether swept or not.
SELECT bucket, hold_id, client, account, currency, amount, captured, released,
       CASE WHEN status = 'active' AND expires_at <= ni.clock() THEN 'expired' ELSE status END,
       kind, expires_at, reference, narrative, actor, original_amount, original_currency,
       legal_reference, available_after, sequence, epoch, created_at, changed_at
  FROM ni.hold
 WHERE bucket = $1 AND hold_id = $2;
