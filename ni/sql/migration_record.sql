-- Notes that a migration was applied, or a function file applied anew.
INSERT INTO ni.migration (name, sha256, applied_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, applied_at = excluded.applied_at;
