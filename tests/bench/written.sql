-- What booking a packet has written, but for ids and instants.
SELECT posting.status, posting.unload_number, posting.changed_at > posting.created_at AS changed,
       applied.applied, base.balance,
       (SELECT count(*) FROM ni.unbooked WHERE unbooked.posting_id = posting.posting_id) AS kept,
       (SELECT json_agg(json_build_array(entry.account, entry.amount, entry.currency,
                                         entry.value_date, entry.business_date, entry.narrative,
                                         entry.reference, entry.legal_reference, entry.link_id,
                                         packet.client, packet.status)
                        ORDER BY entry.amount)
          FROM core.entry JOIN core.packet USING (packet_id)
         WHERE entry.posting_id = posting.posting_id)::text AS entries,
       (SELECT json_agg(json_build_array(bucket, type, account, sequence, epoch, client, currency,
                                         amount, direction, reference, narrative, packet_number))
          FROM ni.outbox
         WHERE movement_id = posting.posting_id AND type = 'ni.posting.booked')::text AS events
  FROM ni.posting
  JOIN ni.applied ON applied.account = posting.debit_account
  JOIN core.account AS base ON base.account = posting.debit_account
 WHERE posting.packet = $1;
