-- Count the statements that end deliveries.
CREATE SEQUENCE ni.ends MINVALUE 0 START 0;
CREATE FUNCTION ni.count_end() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM gone) THEN
        PERFORM nextval('ni.ends');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_end AFTER DELETE ON ni.event_delivery
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ni.count_end();
