-- Events that wait to be delivered, by type, and how long the oldest has waited, in seconds.
SELECT o.type, count(*) AS events,
       date_part('epoch', max(ni.clock() - uuid_extract_timestamp(o.event_id)))::bigint AS oldest_s
  FROM ni.outbox AS o
 GROUP BY o.type
 ORDER BY o.type
