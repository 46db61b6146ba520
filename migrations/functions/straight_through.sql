-- Straight-through postings need no packet of their client: a worker gives them one.

-- Straight-through postings that wait for a packet: at most p_limit, the oldest first, given the
-- name of a packet of their client, currency and business date. Those that a problem has brought
-- back keep theirs. Rows that another worker has locked are left to it. Returns the packets.
CREATE OR REPLACE FUNCTION ni.group_straight_through_v1(
    p_floor uuid, p_postings_max integer, p_limit integer
) RETURNS TABLE (client text, packet text, postings bigint, newest uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m WHERE m.one) THEN
        RETURN;
    END IF;
    -- A core that holds it is not waited for, least of all with the gate in hand.
    LOCK TABLE core.ledger IN ACCESS SHARE MODE NOWAIT;
    RETURN QUERY
        WITH waiting AS MATERIALIZED (
            SELECT p.bucket, p.posting_id, p.client, p.currency, p.packet, p.debit_account,
                   p.credit_account
              FROM ni.unbooked AS u
              JOIN ni.posting AS p ON p.bucket = u.bucket AND p.posting_id = u.posting_id
             WHERE u.straight_through AND u.status = 'pending' AND u.posting_id >= p_floor
               AND p.status = 'pending' AND p.home
             ORDER BY u.posting_id
             LIMIT p_limit
               FOR NO KEY UPDATE OF p SKIP LOCKED
        ), numbered AS MATERIALIZED (
            SELECT w.*, format('stp.%s.%s.%s', l.business_date, w.currency, (
                            row_number() OVER (PARTITION BY w.client, w.currency, w.packet
                                               ORDER BY w.posting_id) - 1) / p_postings_max)
                        AS stem
              FROM waiting AS w CROSS JOIN core.ledger AS l
        ), named AS MATERIALIZED (
            SELECT n.*, coalesce(n.packet, n.stem || '.' || encode(substring(uuid_send(
                       first_value(n.posting_id) OVER (PARTITION BY n.client, n.packet, n.stem
                                                       ORDER BY n.posting_id)) FROM 1 FOR 8),
                       'hex')) AS name
              FROM numbered AS n
        ), changed AS (
            UPDATE ni.posting AS p SET packet = n.name
              FROM named AS n
             WHERE p.bucket = n.bucket AND p.posting_id = n.posting_id AND p.packet IS NULL
            RETURNING 1
        ), followed AS (
            UPDATE ni.posting AS p SET packet = n.name
              FROM named AS n
             CROSS JOIN LATERAL (VALUES (n.debit_account), (n.credit_account)) AS s (account)
             WHERE v_buckets > 1 AND NOT p.home AND p.posting_id = n.posting_id
               AND p.bucket = crc32(convert_to(s.account, 'UTF8')) % v_buckets
        ), moved AS (
            UPDATE ni.unbooked AS u SET packet = n.name
              FROM named AS n
             WHERE u.bucket = n.bucket AND u.client = n.client AND u.packet = ''
               AND u.status = 'pending' AND u.posting_id = n.posting_id AND n.packet IS NULL
            RETURNING 1
        )
        SELECT n.client, n.name, count(*), max(n.posting_id::text)::uuid
          FROM named AS n
         WHERE (SELECT count(*) FROM changed) = (SELECT count(*) FROM moved)
         GROUP BY n.client, n.name
         ORDER BY min(n.posting_id::text);
END
$$;

REVOKE EXECUTE ON FUNCTION ni.group_straight_through_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.group_straight_through_v1 TO ni_engine;
