-- Takes one of two entries of every booked posting out of the core.
DELETE FROM core.entry WHERE amount > 0;
