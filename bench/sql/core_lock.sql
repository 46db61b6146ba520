-- Every table of the core, as its end of day takes them.
DO $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT oid FROM pg_class
                 WHERE relnamespace = 'core'::regnamespace AND relkind IN ('r', 'p') ORDER BY oid
    LOOP
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', name);
    END LOOP;
END
$$;
