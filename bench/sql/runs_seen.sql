-- The committed runs of straight-through packets of the client $1, but for the packets $2, and the
-- instant at which they were seen: after their commit, for the clock is read after the snapshot.
SELECT packet, number, clock_timestamp() AS seen_at
  FROM ni.unload
 WHERE bucket = 0 AND client = $1 AND packet LIKE 'stp.%' AND NOT packet = ANY ($2::text[]);
