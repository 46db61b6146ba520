-- Straight-through postings need no packet of their client: a worker gives them one.

-- Locks straight-through postings that have no packet: at most p_limit, the oldest first, and with
-- each the others of its link. Rows that another transaction has locked are left to it, and so is
-- what is linked to them.
CREATE OR REPLACE FUNCTION ni.lock_straight_through_v1(p_floor uuid, p_limit integer)
RETURNS ni.straight_through_v1[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN ARRAY(
        WITH waiting AS MATERIALIZED (
            SELECT p.bucket, p.posting_id, p.client, p.currency, p.link_id
              FROM ni.unbooked AS u
              JOIN ni.posting AS p ON p.bucket = u.bucket AND p.posting_id = u.posting_id
             WHERE u.straight_through AND u.status = 'pending' AND u.packet = ''
               AND u.posting_id >= p_floor AND p.status = 'pending' AND p.packet IS NULL
               AND p.home
             ORDER BY u.posting_id
             LIMIT p_limit
               FOR NO KEY UPDATE OF p SKIP LOCKED
        ), linked AS MATERIALIZED (
            SELECT u.bucket, u.posting_id, u.client, u.link_id
              FROM (SELECT DISTINCT w.client, w.link_id FROM waiting AS w
                     WHERE w.link_id IS NOT NULL) AS l
              JOIN ni.unbooked AS u ON u.client = l.client AND u.link_id = l.link_id
             WHERE u.straight_through AND u.status = 'pending' AND u.packet = ''
        ), others AS MATERIALIZED (
            SELECT p.bucket, p.posting_id, p.client, p.currency, p.link_id
              FROM linked AS l
              JOIN ni.posting AS p ON p.bucket = l.bucket AND p.posting_id = l.posting_id
             WHERE p.status = 'pending' AND p.packet IS NULL
               AND l.posting_id NOT IN (SELECT w.posting_id FROM waiting AS w)
               FOR NO KEY UPDATE OF p SKIP LOCKED
        ), locked AS MATERIALIZED (
            SELECT * FROM waiting UNION ALL SELECT * FROM others
        ), parted AS MATERIALIZED (
            SELECT l.client, l.link_id FROM linked AS l
             WHERE l.posting_id NOT IN (SELECT k.posting_id FROM locked AS k)
        )
        SELECT ROW(k.bucket, k.posting_id, k.client, k.currency, k.link_id)::ni.straight_through_v1
          FROM locked AS k
         WHERE k.link_id IS NULL
            OR (k.client, k.link_id) NOT IN (SELECT d.client, d.link_id FROM parted AS d));
END
$$;

-- Gives straight-through postings that wait the name of a packet of their client, currency and
-- business date, and returns the packets. A link's postings go into one packet, named for the first
-- of them, or into that in which others of the link are already; no cut parts them. It may last:
-- the unload gate keeps it day meanwhile, and not the gate, for which every decision would queue
-- with a switch. A core that holds its tables, and a day that closes, are not waited for.
CREATE OR REPLACE FUNCTION ni.group_straight_through_v1(
    p_floor uuid, p_postings_max integer, p_limit integer
) RETURNS TABLE (client text, packet text, postings bigint, newest uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
    v_locked  ni.straight_through_v1[];
BEGIN
    LOCK TABLE ni.unload_gate IN ROW SHARE MODE NOWAIT;
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m WHERE m.one) THEN
        RETURN;
    END IF;
    LOCK TABLE core.ledger IN ACCESS SHARE MODE NOWAIT;
    v_locked := ni.lock_straight_through_v1(p_floor, p_limit);
    RETURN QUERY
        WITH led AS MATERIALIZED (
            SELECT w.*, first_value(w.posting_id) OVER link AS leader,
                   first_value(w.currency) OVER link AS named_for
              FROM unnest(v_locked) AS w
            WINDOW link AS (PARTITION BY w.client, coalesce(w.link_id, w.posting_id)
                            ORDER BY w.posting_id)
        ), cut AS MATERIALIZED (
            SELECT l.*, (rank() OVER (PARTITION BY l.client, l.named_for ORDER BY l.leader) - 1)
                        / p_postings_max AS part
              FROM led AS l
        ), named AS MATERIALIZED (
            SELECT c.*, coalesce(
                       (SELECT min(u.packet) FROM ni.unbooked AS u
                         WHERE u.client = c.client AND u.link_id = c.link_id AND u.packet <> ''
                           AND u.straight_through AND u.status <> 'cancelled'),
                       concat_ws('.', 'stp', d.business_date, c.named_for, replace(
                           (first_value(c.leader) OVER (
                                PARTITION BY c.client, c.named_for, c.part
                                ORDER BY c.leader))::text, '-', ''))) AS name
              FROM cut AS c CROSS JOIN core.ledger AS d
        ), changed AS (
            UPDATE ni.posting AS p SET packet = n.name
              FROM named AS n
             WHERE p.bucket = n.bucket AND p.posting_id = n.posting_id AND p.packet IS NULL
            RETURNING p.bucket, p.posting_id, p.debit_account, p.credit_account, n.name
        ), followed AS (
            UPDATE ni.posting AS p SET packet = c.name
              FROM changed AS c
             CROSS JOIN LATERAL (VALUES (c.debit_account), (c.credit_account)) AS s (account)
             WHERE v_buckets > 1 AND NOT p.home AND p.posting_id = c.posting_id
               AND p.bucket = crc32(convert_to(s.account, 'UTF8')) % v_buckets
        ), moved AS (
            UPDATE ni.unbooked AS u SET packet = c.name
              FROM named AS c
             WHERE u.bucket = c.bucket AND u.client = c.client AND u.packet = ''
               AND u.status = 'pending' AND u.posting_id = c.posting_id
            RETURNING 1
        ), counted AS MATERIALIZED (
            SELECT ni.expect_v1('posting', (SELECT count(*) FROM changed), cardinality(v_locked)),
                   ni.expect_v1('unbooked', (SELECT count(*) FROM moved), cardinality(v_locked))
        )
        SELECT n.client, n.name, count(*), max(n.posting_id::text)::uuid
          FROM named AS n CROSS JOIN counted
         GROUP BY n.client, n.name
         ORDER BY min(n.posting_id::text);
END
$$;

-- Packets with straight-through postings that a run would take now, but for those that the caller
-- knows: left by a worker that was killed, or brought back by somebody who has settled a problem.
CREATE OR REPLACE FUNCTION ni.straight_through_left_v1(p_known text[], p_limit integer)
RETURNS TABLE (client text, packet text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m WHERE m.one) THEN
        RETURN;
    END IF;
    RETURN QUERY
        WITH RECURSIVE named AS (
            (SELECT u.packet, u.client FROM ni.unbooked AS u
              WHERE u.straight_through AND u.status = 'pending' AND u.packet > ''
              ORDER BY u.packet LIMIT 1)
            UNION ALL
            SELECT f.packet, f.client
              FROM named AS n
             CROSS JOIN LATERAL (
                SELECT u.packet, u.client FROM ni.unbooked AS u
                 WHERE u.straight_through AND u.status = 'pending' AND u.packet > n.packet
                 ORDER BY u.packet LIMIT 1) AS f
        )
        SELECT n.client, n.packet
          FROM named AS n
         WHERE n.packet <> ALL (p_known)
           AND EXISTS (
                SELECT FROM ni.unbooked AS u
                 WHERE u.straight_through AND u.status = 'pending' AND u.packet = n.packet
                   AND (u.link_id IS NULL OR NOT EXISTS (
                            SELECT FROM ni.unbooked AS h
                             WHERE h.client = u.client AND h.link_id = u.link_id
                               AND h.packet = u.packet AND h.status <> 'cancelled'
                               AND h.status <> 'pending')))
         LIMIT p_limit;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.lock_straight_through_v1, ni.group_straight_through_v1, ni.straight_through_left_v1
    FROM public;
GRANT EXECUTE ON FUNCTION ni.group_straight_through_v1, ni.straight_through_left_v1 TO ni_engine;
