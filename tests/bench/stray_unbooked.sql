-- A booked posting that is kept among the unbooked.
INSERT INTO ni.unbooked (bucket, posting_id, client, packet, status, straight_through, amount,
                         currency)
SELECT bucket, posting_id, client, packet, 'pending', false, amount, currency FROM ni.posting;
