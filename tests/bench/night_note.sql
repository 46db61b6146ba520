-- A note of one key.
insert into night.changed (bucket, relation, key) values (0, 'account', $1);
