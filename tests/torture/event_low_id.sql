-- An event whose id is older than everything that will be committed before it.
insert into ni.outbox (bucket, event_id, type, epoch, client, packet, packet_number, detail)
values (0, $1::uuid, 'ni.packet.unloaded', 1, 'torturer', 'slow', 1, 'booked')
