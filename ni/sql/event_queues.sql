-- Queues in PostgreSQL: what waits, and what was put aside.
SELECT q.queue, q.temporary,
       (SELECT count(*) FROM ni.event_delivery AS d
         WHERE d.bucket = 0 AND d.queue = q.queue) AS waiting,
       (SELECT count(*) FROM ni.event_dead AS d
         WHERE d.bucket = 0 AND d.queue = q.queue) AS dead
  FROM ni.event_queue AS q
 ORDER BY q.queue
