-- Whether a posting has ever named a packet.
SELECT 1 FROM ni.posting WHERE client = $1 AND packet = $2 AND home LIMIT 1;
