-- Fixes the number of buckets, once.
INSERT INTO ni.installation (buckets) VALUES ($1) ON CONFLICT (one) DO NOTHING;
