-- Lets a single command be decided without the gate, in this database: ni.lock_v1 without its
-- LOCK TABLE. What it was is kept for gate_on.
CREATE SCHEMA IF NOT EXISTS bench_gate;
CREATE TABLE IF NOT EXISTS bench_gate.kept (definition text NOT NULL);
DO $$
DECLARE
    word CONSTANT text := 'LOCK TABLE ni.gate IN ROW SHARE MODE;';
    found text := pg_get_functiondef('ni.lock_v1'::regproc);
BEGIN
    IF position(word IN found) = 0 THEN
        RAISE EXCEPTION 'ni.lock_v1 does not take the gate';
    END IF;
    INSERT INTO bench_gate.kept VALUES (found);
    EXECUTE replace(found, word, '');
END
$$;
