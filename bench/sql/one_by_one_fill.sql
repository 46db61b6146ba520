-- Numbers what is pending in a packet of the client $1, by id, and makes its row in the core.
WITH packet AS (
    INSERT INTO core.packet (client, packet, number, booked_at)
    VALUES ($1, $2, 1, clock_timestamp())
    RETURNING packet_id
)
INSERT INTO one_by_one.posting (number, bucket, posting_id, packet_id)
SELECT row_number() OVER (ORDER BY posting.posting_id), posting.bucket, posting.posting_id,
       packet.packet_id
  FROM ni.posting
 CROSS JOIN packet
 WHERE posting.client = $1 AND posting.packet = $2 AND posting.status = 'pending' AND posting.home;
