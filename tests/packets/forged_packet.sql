-- A packet that NI has never unloaded.
insert into core.packet (client, packet, number, status, booked_at)
values ('c', 'forged', 1, 'accepted', now());
