-- The next events of bucket 0 from the id $1 on, at most $2, as a reader of the queue takes them.
SELECT event_id FROM ni.outbox
 WHERE bucket = 0 AND event_id >= $1
 ORDER BY event_id
 LIMIT $2;
