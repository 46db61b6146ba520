-- The runs of a packet, newest first.
SELECT number, verdict_at, booked, problems, accepted, status
  FROM ni.unload
 WHERE bucket = 0 AND client = $1 AND packet = $2
 ORDER BY number DESC
 LIMIT $3;
