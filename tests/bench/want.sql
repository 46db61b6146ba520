-- Waits for that lock.
SELECT pg_advisory_xact_lock(1);
