-- Events of accounts, as decisions write them.
INSERT INTO ni.outbox (bucket, event_id, type, account, sequence, epoch, client, movement_id,
                       currency, amount, direction, available_after)
SELECT e.bucket, e.event_id, e.type, e.account, e.sequence, 1, 'tests', e.event_id, 'CZK', 5000, -1,
       100000
  FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
       AS e (bucket, event_id, type, account, sequence)
