-- Straight-through postings that are booked.
SELECT count(*) FROM ni.posting WHERE home AND straight_through AND status = 'booked';
