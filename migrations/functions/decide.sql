-- The hot path: lock and read in one call, write (write.sql) in another, both called inside one
-- transaction by the engine, which decides in between. All are VOLATILE PL/pgSQL on purpose: every
-- statement sees what is committed when it begins, so a statement after a lock sees what the lock
-- waited for, and a statement that is not reached is never planned (by night nothing here touches
-- core.*).
--
-- The shapes are chosen so that no statistics are needed: upserts, rows found one by one under a
-- LIMIT or OFFSET 0 that the planner must not flatten. A plan made while a table was empty is then
-- the plan for a full one.

-- The accounts that named holds and postings concern, read without locks.
CREATE OR REPLACE FUNCTION ni.locate_v1(p_bucket smallint, p_holds uuid[], p_postings uuid[])
RETURNS TABLE (movement_id uuid, debit_account text, credit_account text)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN QUERY
        SELECT h.hold_id, h.account, NULL::text
          FROM ni.hold AS h
         WHERE h.bucket = p_bucket AND h.hold_id = ANY (p_holds);
    RETURN QUERY
        SELECT p.posting_id, p.debit_account, p.credit_account
          FROM ni.posting AS p
         WHERE p.bucket = p_bucket AND p.posting_id = ANY (p_postings);
END
$$;

-- Makes the positions of accounts that have none: step 0, for accounts' first decisions alone. The
-- caller calls it for every bucket before the first lock; sorted, so that two first decisions on
-- the same accounts cannot deadlock. Returns how many were made; none in another mode.
CREATE OR REPLACE FUNCTION ni.open_positions_v1(
    p_bucket smallint, p_mode text, p_accounts text[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode <> p_mode FROM ni.mode AS m WHERE m.one) THEN
        RETURN 0;
    END IF;
    PERFORM ni.expect_session_v1(p_mode);
    RETURN ni.place_positions_v1(p_bucket, p_accounts);
END
$$;

-- The part of it that names a base: apart, so that a session of the night is warmed by day.
CREATE OR REPLACE FUNCTION ni.place_positions_v1(p_bucket smallint, p_accounts text[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_rows bigint;
BEGIN
    INSERT INTO ni.position (bucket, account)
        SELECT p_bucket, x.account
          FROM unnest(p_accounts) AS x (account)
         WHERE NOT EXISTS (SELECT FROM ni.position AS p
                            WHERE p.bucket = p_bucket AND p.account = x.account OFFSET 0)
           AND EXISTS (SELECT FROM account AS b
                        WHERE b.account = x.account AND b.kind = 'customer' OFFSET 0)
         ORDER BY x.account COLLATE "C"
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;

-- Steps 1 and 2 of a decision: gate, mode, position locks, row locks, and in later statements the
-- figures, all of one snapshot with the instant of the change.
--
-- p_accounts must be distinct. o_mode differs from p_mode: nothing was read, the caller is in the
-- wrong pool. o_complete is false when a customer's account has no position yet, or became a
-- customer's between the lock and the read: the caller does it again, opening positions first. Rows
-- of p_holds and p_postings that somebody else has locked are left out.
CREATE OR REPLACE FUNCTION ni.lock_v1(
    p_bucket smallint, p_mode text, p_floor timestamptz, p_accounts text[],
    p_clients text[], p_keys text[], p_holds uuid[], p_postings uuid[],
    OUT o_mode text, OUT o_epoch integer, OUT o_complete boolean, OUT o_instant timestamptz,
    OUT o_business_date date, OUT o_next_business_date date,
    OUT o_accounts ni.account_view_v1[], OUT o_requests ni.request_view_v1[],
    OUT o_holds ni.hold[], OUT o_postings ni.posting[], OUT o_expired ni.hold[]
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_locked  text[];
    v_hash    bigint;
    v_figures record;
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode, m.epoch INTO o_mode, o_epoch FROM ni.mode AS m WHERE m.one;
    IF o_mode <> p_mode THEN
        RETURN;
    END IF;
    IF current_schema() IS DISTINCT FROM p_mode || '_alias' THEN
        PERFORM ni.expect_session_v1(p_mode);
    END IF;
    SELECT l.business_date, l.next_business_date
      INTO o_business_date, o_next_business_date
      FROM ledger AS l;

    SELECT array_agg(l.account), bit_xor(hashtextextended(l.account, 0)) INTO v_locked, v_hash
      FROM (SELECT p.account FROM ni.position AS p
             WHERE p.bucket = p_bucket AND p.account = ANY (p_accounts)
             ORDER BY p.account
               FOR NO KEY UPDATE) AS l;

    IF cardinality(p_holds) > 0 THEN
        o_holds := ni.lock_holds_v1(p_bucket, p_holds);
    END IF;
    IF cardinality(p_postings) > 0 THEN
        o_postings := ni.lock_postings_v1(p_bucket, p_postings);
    END IF;

    v_figures := ni.figures_v1(p_bucket, p_floor, p_accounts);
    o_instant := v_figures.instant;
    o_accounts := v_figures.accounts;
    -- Positions outlive accounts that the core deletes, so sets are compared, not counts.
    o_complete := v_hash IS NOT DISTINCT FROM v_figures.customers OR NOT EXISTS (
        SELECT FROM unnest(o_accounts) AS a
         WHERE a.kind = 'customer' AND a.account <> ALL (coalesce(v_locked, '{}')));
    IF v_figures.any_expired THEN
        o_expired := ni.expired_holds_v1(p_bucket, o_accounts, o_instant);
    END IF;
    SELECT array_agg(ROW(r.client, r.key, r.fingerprint, r.decision, r.document)
                     ::ni.request_view_v1)
      INTO o_requests
      FROM unnest(p_clients, p_keys) AS k (client, key)
     CROSS JOIN LATERAL (
        SELECT * FROM ni.request AS t
         WHERE t.bucket = p_bucket AND t.client = k.client AND t.key = k.key
         LIMIT 1) AS r;
END
$$;

-- Locks named holds by id and reads them in the same statement; those that somebody else has
-- locked are left out, for a decision waits for nobody.
CREATE OR REPLACE FUNCTION ni.lock_holds_v1(p_bucket smallint, p_holds uuid[])
RETURNS ni.hold[]
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN (SELECT array_agg(h) FROM (
        SELECT * FROM ni.hold AS t
         WHERE t.bucket = p_bucket AND t.hold_id = ANY (p_holds)
         ORDER BY t.hold_id FOR NO KEY UPDATE SKIP LOCKED) AS h);
END
$$;

-- The same for named postings.
CREATE OR REPLACE FUNCTION ni.lock_postings_v1(p_bucket smallint, p_postings uuid[])
RETURNS ni.posting[]
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN (SELECT array_agg(p) FROM (
        SELECT * FROM ni.posting AS t
         WHERE t.bucket = p_bucket AND t.posting_id = ANY (p_postings)
         ORDER BY t.posting_id FOR NO KEY UPDATE SKIP LOCKED) AS p);
END
$$;

-- The first holds of locked accounts that have expired at the instant and that nobody has swept.
CREATE OR REPLACE FUNCTION ni.expired_holds_v1(
    p_bucket smallint, p_accounts ni.account_view_v1[], p_instant timestamptz
) RETURNS ni.hold[]
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN (SELECT array_agg(h) FROM (
        SELECT t.* FROM unnest(p_accounts) AS x
          CROSS JOIN LATERAL (
            SELECT * FROM ni.hold AS e
             WHERE e.bucket = p_bucket AND e.account = x.account
               AND e.status = 'active' AND e.expires_at <= p_instant
             ORDER BY e.expires_at LIMIT 100) AS t
         WHERE x.expired > 0) AS h);
END
$$;

-- Refuses a session whose search_path does not mean the mode that its caller names.
CREATE OR REPLACE FUNCTION ni.expect_session_v1(p_mode text) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF current_schema() IS DISTINCT FROM p_mode || '_alias' THEN
        RAISE EXCEPTION 'a session of % decides by %', current_schema(), p_mode
            USING ERRCODE = 'NI001';
    END IF;
END
$$;

-- Base, figures and instant of accounts whose positions are locked, in ONE snapshot: it sees a
-- packet's base, applied and statuses entirely or not at all. `customers` is one hash over
-- the customers' names.
CREATE OR REPLACE FUNCTION ni.figures_v1(
    p_bucket smallint, p_floor timestamptz, p_accounts text[],
    OUT instant timestamptz, OUT accounts ni.account_view_v1[], OUT customers bigint,
    OUT any_expired boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    WITH figure AS MATERIALIZED (
        SELECT x.account, s.era, s.created, s.held, s.sequence, s.decided_at, s.next_expiry
          FROM unnest(p_accounts) AS x (account)
          LEFT JOIN LATERAL (
            SELECT * FROM ni.state AS t
             WHERE t.bucket = p_bucket AND t.account = x.account
             ORDER BY t.era DESC LIMIT 1) AS s ON true
    ), change AS MATERIALIZED (
        SELECT greatest(ni.clock(), p_floor,
                        max(f.decided_at) + interval '1 microsecond') AS instant
          FROM figure AS f
    )
    SELECT max(c.instant),
           array_agg(ROW(f.account, b.kind, b.currency, b.status, b.balance, b.credit_limit,
                         k.debit, k.credit,
                         (SELECT p.applied FROM ni.applied AS p
                           WHERE p.bucket = p_bucket AND p.account = f.account),
                         f.era, f.created, f.held, f.sequence, f.next_expiry, e.following,
                         e.remaining)::ni.account_view_v1),
           bit_xor(hashtextextended(f.account, 0)) FILTER (WHERE b.kind = 'customer'),
           bool_or(e.remaining > 0)
      INTO instant, accounts, customers, any_expired
      FROM change AS c
     CROSS JOIN figure AS f
      LEFT JOIN LATERAL (
        SELECT * FROM account AS t WHERE t.account = f.account LIMIT 1) AS b ON true
     CROSS JOIN LATERAL (
        SELECT bool_or(t.side <> 'credit') AS debit, bool_or(t.side <> 'debit') AS credit
          FROM block AS t
         WHERE t.account = f.account AND t.valid_from <= c.instant
           AND (t.valid_to IS NULL OR t.valid_to > c.instant)) AS k
     CROSS JOIN LATERAL (
        SELECT sum(h.amount - h.captured - h.released)
                 FILTER (WHERE h.expires_at <= c.instant)::bigint AS remaining,
               min(h.expires_at) FILTER (WHERE h.expires_at > c.instant) AS following
          FROM ni.hold AS h
         WHERE f.next_expiry <= c.instant
           AND h.bucket = p_bucket AND h.account = f.account
           AND h.status = 'active' AND h.expires_at IS NOT NULL) AS e;
    instant := coalesce(instant, greatest(ni.clock(), p_floor));
END
$$;
