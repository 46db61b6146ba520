-- Gives the transaction its id, or shows the id that it has.
SELECT pg_current_xact_id()::text;
