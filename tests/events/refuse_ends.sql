-- Let no delivery be ended.
CREATE FUNCTION ni.refuse_end() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'none is ended';
END
$$;
CREATE TRIGGER refuse_end BEFORE DELETE ON ni.event_delivery
    FOR EACH ROW EXECUTE FUNCTION ni.refuse_end();
