-- Takes the night copy's triggers out of the core's way; the copy is not kept any more.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT tgname FROM pg_trigger
                 WHERE tgrelid = 'core.account'::regclass AND tgname LIKE 'night\_copy\_%'
    LOOP
        EXECUTE format('ALTER TABLE core.account DISABLE TRIGGER %I', name);
    END LOOP;
END
$$;
