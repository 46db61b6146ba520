-- Straight-through postings that no run has taken yet.
SELECT count(*) FROM ni.unbooked WHERE straight_through AND status = 'pending';
