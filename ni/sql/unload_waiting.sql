-- The runs of a packet that wait for acceptance: one by number, or the newest.
SELECT number, unloaded_by
  FROM ni.unload
 WHERE bucket = 0 AND client = $1 AND packet = $2 AND status = 'awaiting_acceptance'
   AND ($3::integer IS NULL OR number = $3)
 ORDER BY number DESC
 LIMIT 1;
