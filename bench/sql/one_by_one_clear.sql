-- Forgets the numbers of the round before.
TRUNCATE one_by_one.posting;
