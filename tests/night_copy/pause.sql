-- Makes a resynchronisation rest after it has placed rows for keys that have none.
CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_catalog.current_setting('application_name') = 'ni day' THEN
        PERFORM pg_catalog.pg_sleep(0.6);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER rest AFTER INSERT ON night.account FOR EACH STATEMENT EXECUTE FUNCTION public.rest();
