-- A note of everything of the accounts.
insert into night.changed (bucket, relation, side) values (0, 'account', 'core');
