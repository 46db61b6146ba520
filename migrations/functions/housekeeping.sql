-- What workers do in small steps, so that no step holds anything for long.

-- Accounts with a hold whose expiry has passed and that nobody has swept, oldest first.
CREATE OR REPLACE FUNCTION ni.due_accounts_v1(p_bucket smallint, p_limit integer)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now timestamptz := ni.clock();
BEGIN
    RETURN QUERY
        SELECT DISTINCT t.account FROM (
            SELECT h.account::text FROM ni.hold AS h
             WHERE h.bucket = p_bucket AND h.status = 'active' AND h.amount > 0
               AND h.expires_at <= v_now
             ORDER BY h.expires_at LIMIT p_limit) AS t;
END
$$;

-- The same from a floor on, which spares the index entries of what was swept: while somebody's
-- transaction is open nobody can remove them. o_full: there may be more.
CREATE OR REPLACE FUNCTION ni.due_accounts_v2(
    p_bucket smallint, p_floor timestamptz, p_limit integer,
    OUT o_accounts text[], OUT o_full boolean, OUT o_now timestamptz
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    o_now := ni.clock();
    SELECT coalesce(array_agg(DISTINCT t.account), '{}'), count(*) >= p_limit
      INTO o_accounts, o_full
      FROM (SELECT h.account::text FROM ni.hold AS h
             WHERE h.bucket = p_bucket AND h.status = 'active' AND h.amount > 0
               AND h.expires_at > p_floor AND h.expires_at <= o_now
             ORDER BY h.expires_at LIMIT p_limit) AS t;
END
$$;

-- Deletes eras that are not an account's newest, walking the key from (p_account, p_era) on.
-- Returns where to go on, or a null account at the end. The newest era is never touched. Without
-- bitmap scans the only plan is the walk in the key's order.
CREATE OR REPLACE FUNCTION ni.prune_eras_v1(
    p_bucket smallint, p_after text, p_limit integer,
    OUT o_last text, OUT o_deleted bigint
)
LANGUAGE plpgsql VOLATILE SET enable_bitmapscan = off
AS $$
BEGIN
    WITH walked AS MATERIALIZED (
        SELECT t.account, t.era FROM ni.state AS t
         WHERE t.bucket = p_bucket AND t.account > p_after
         ORDER BY t.account, t.era LIMIT p_limit
    ), deleted AS (
        DELETE FROM ni.state AS s
         USING walked AS w
         WHERE s.bucket = p_bucket AND s.account = w.account AND s.era = w.era
           AND EXISTS (SELECT FROM ni.state AS n
                        WHERE n.bucket = p_bucket AND n.account = s.account AND n.era > s.era)
        RETURNING 1
    )
    SELECT CASE WHEN count(*) = p_limit THEN max(w.account) END,
           (SELECT count(*) FROM deleted)
      INTO o_last, o_deleted
      FROM walked AS w;
END
$$;

-- Deletes idempotency keys older than p_keep_days, at most p_limit of them, about the oldest first:
-- they lie where they were written, in the order of their time, and are never updated. The bucket
-- is compared so that no plan walks a whole bucket's primary key for it.
CREATE OR REPLACE FUNCTION ni.prune_requests_v1(
    p_bucket smallint, p_keep_days integer, p_limit integer
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_before  timestamptz := ni.clock() - make_interval(days => p_keep_days);
    v_deleted bigint;
BEGIN
    DELETE FROM ni.request AS r
     WHERE r.ctid = ANY (ARRAY(
        SELECT t.ctid FROM ni.request AS t
         WHERE t.bucket + 0 = p_bucket AND t.decided_at < v_before
         LIMIT p_limit));
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END
$$;

-- Deletes what was found below its limit more than p_keep_days ago, oldest days first, at most
-- p_limit rows. What the day's document shows stays. Only so many rows are looked at: those of a
-- day are as old as each other, nearly.
CREATE OR REPLACE FUNCTION ni.prune_below_limit_v1(
    p_bucket smallint, p_keep_days integer, p_limit integer
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    v_before  timestamptz := ni.clock() - make_interval(days => p_keep_days);
    v_deleted bigint;
BEGIN
    DELETE FROM ni.below_limit AS b
     USING (SELECT t.epoch, t.account, t.found_at FROM ni.below_limit AS t
             WHERE t.bucket = p_bucket
               AND t.epoch < (SELECT m.epoch - 1 FROM ni.mode AS m WHERE m.one)
             ORDER BY t.epoch, t.account LIMIT p_limit) AS old
     WHERE b.bucket = p_bucket AND b.epoch = old.epoch AND b.account = old.account
       AND old.found_at < v_before;
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END
$$;

REVOKE EXECUTE ON FUNCTION ni.prune_below_limit_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.prune_below_limit_v1 TO ni_engine;
