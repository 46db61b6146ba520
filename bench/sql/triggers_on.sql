-- Puts the night copy's triggers back as they were.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT tgname FROM pg_trigger
                 WHERE tgrelid = 'core.account'::regclass AND tgname LIKE 'night\_copy\_%'
    LOOP
        EXECUTE format('ALTER TABLE core.account ENABLE ALWAYS TRIGGER %I', name);
    END LOOP;
END
$$;
