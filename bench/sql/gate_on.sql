-- Gives ni.lock_v1 back as it was.
DO $$
BEGIN
    EXECUTE (SELECT definition FROM bench_gate.kept);
    DELETE FROM bench_gate.kept;
END
$$;
