-- Postings of a packet with the same link go to the core together or not at all.

-- The postings that a run of a packet takes, in no order: the oldest p_limit in a status, and those
-- behind them that belong to one of them. What is pending stays so while a posting of its link is a
-- problem or waits for acceptance: it goes when that one has been settled, and with it.
CREATE OR REPLACE FUNCTION ni.postings_of_run_v1(
    p_client text, p_packet text, p_status text, p_limit integer
) RETURNS TABLE (bucket smallint, posting_id uuid, kept tid)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_buckets smallint[] := ni.buckets_v1();
BEGIN
    RETURN QUERY
        WITH held AS MATERIALIZED (
            SELECT h.link_id FROM ni.unbooked AS h
             WHERE h.bucket = ANY (v_buckets) AND h.client = p_client AND h.packet = p_packet
               AND h.status = ANY ('{problem,awaiting_acceptance}') AND h.link_id IS NOT NULL
               AND p_status = 'pending'
        ), oldest AS MATERIALIZED (
            SELECT u.bucket, u.posting_id, u.link_id, u.ctid AS kept
              FROM ni.unbooked AS u
             WHERE u.bucket = ANY (v_buckets) AND u.client = p_client AND u.packet = p_packet
               AND u.status = p_status
               AND (u.link_id IS NULL OR u.link_id NOT IN (SELECT h.link_id FROM held AS h))
             ORDER BY u.posting_id
             LIMIT p_limit
        ), cut AS MATERIALIZED (
            SELECT o.posting_id FROM oldest AS o ORDER BY o.posting_id DESC LIMIT 1
        ), begun AS MATERIALIZED (
            SELECT DISTINCT o.link_id FROM oldest AS o
             WHERE o.link_id IS NOT NULL AND (SELECT count(*) FROM oldest) = p_limit
        )
        SELECT o.bucket, o.posting_id, o.kept FROM oldest AS o
        UNION ALL
        SELECT u.bucket, u.posting_id, u.ctid
          FROM begun AS b
          JOIN ni.unbooked AS u ON u.client = p_client AND u.link_id = b.link_id
         WHERE u.packet = p_packet AND u.status = p_status AND u.status <> 'cancelled'
           AND u.posting_id > (SELECT c.posting_id FROM cut AS c);
END
$$;

REVOKE EXECUTE ON FUNCTION ni.postings_of_run_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.postings_of_run_v1 TO ni_engine;
