-- Debits and credits of the entries that count in a client's packets, in minor units.
SELECT coalesce(-sum(e.amount) FILTER (WHERE e.amount < 0), 0)::bigint AS debits,
       coalesce(sum(e.amount) FILTER (WHERE e.amount > 0), 0)::bigint AS credits
  FROM core.packet AS p
  JOIN core.entry AS e USING (packet_id)
 WHERE p.client = $1 AND p.packet = ANY ($2::text[]) AND p.status = 'accepted';
