-- The straight-through postings in the order of their acceptance.
SELECT packet, created_at FROM ni.posting WHERE straight_through ORDER BY created_at;
