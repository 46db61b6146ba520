-- The next events of each bucket after an id, but none of the accounts named, in the order of their
-- ids, and the clock. In each bucket at most so many rows are looked at: the last of them is given
-- in any case, so that the reader knows how far that was.
-- One row of nulls when there are none.
SELECT o.event_id, o.type, o.account, o.sequence, o.epoch, o.client, o.movement_id, o.currency,
       o.amount, o.direction, o.available_after, o.reference, o.narrative, o.packet,
       o.packet_number, o.detail, o.debit_account, o.credit_account, o.hold_id, o.hold_remaining,
       o.bucket, o.lap, o.place, c.now_us
  FROM (SELECT (date_part('epoch', ni.clock()) * 1000000)::bigint AS now_us) AS c
  LEFT JOIN LATERAL (
    SELECT t.* FROM unnest($1::smallint[], $2::uuid[], $3::integer[], $4::integer[])
                    AS f (bucket, last_id, given_max, seen_max)
     CROSS JOIN LATERAL (
        SELECT s.* FROM (
            SELECT e.*, row_number() OVER (ORDER BY e.event_id) AS place FROM ni.outbox AS e
             WHERE e.bucket = f.bucket AND e.event_id > f.last_id
             ORDER BY e.event_id LIMIT f.seen_max) AS s
         WHERE s.place = f.seen_max
            OR coalesce(s.account, '') NOT IN (SELECT unnest($5::text[]))
         ORDER BY s.event_id LIMIT f.given_max) AS t) AS o ON true
