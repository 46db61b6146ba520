-- Takes a lock and keeps it, as an unload keeps its packet's rows.
BEGIN;
SELECT pg_advisory_xact_lock(1);
