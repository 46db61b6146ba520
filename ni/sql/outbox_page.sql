-- The next events of each bucket after an id, in the order of their ids, and the clock.
-- One row of nulls when there are none.
SELECT o.event_id, o.type, o.account, o.sequence, o.epoch, o.client, o.movement_id, o.currency,
       o.amount, o.direction, o.available_after, o.reference, o.narrative, o.packet,
       o.packet_number, o.detail, o.debit_account, o.credit_account, o.bucket, o.lap, c.now_us
  FROM (SELECT (date_part('epoch', ni.clock()) * 1000000)::bigint AS now_us) AS c
  LEFT JOIN LATERAL (
    SELECT t.* FROM unnest($1::smallint[], $2::uuid[]) AS f (bucket, last_id)
     CROSS JOIN LATERAL (
        SELECT * FROM ni.outbox AS e
         WHERE e.bucket = f.bucket AND e.event_id > f.last_id
         ORDER BY e.event_id LIMIT $3) AS t) AS o ON true
