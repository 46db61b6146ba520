-- An event of this id.
insert into ni.outbox (bucket, event_id, type, epoch, client) values (0, $1, 'ni.test', 1, 'bench');
