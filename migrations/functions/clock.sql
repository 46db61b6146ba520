-- The one clock of all decisions. Test databases replace it with one that they set.
CREATE OR REPLACE FUNCTION ni.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL UNSAFE
AS 'SELECT clock_timestamp()';

-- The bucket in which everything of an account lives.
CREATE OR REPLACE FUNCTION ni.bucket_of(p_account text) RETURNS smallint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN crc32(convert_to(p_account, 'UTF8'))
           % (SELECT i.buckets FROM ni.installation AS i);
END
$$;
