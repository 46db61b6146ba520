-- The hot path: lock and read in one call, write in another, both called inside one transaction by
-- the engine, which decides in between. All are VOLATILE PL/pgSQL on purpose: every statement sees
-- what is committed when it begins, so a statement after a lock sees what the lock waited for, and
-- a statement that is not reached is never planned (by night nothing here touches core.*).
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

-- Steps 1 and 2 of a decision: gate, mode, position locks, row locks, and in later statements the
-- figures, all of one snapshot with the instant of the change.
--
-- p_accounts must be distinct. o_mode differs from p_mode: nothing was read, the caller is in the
-- wrong pool. o_complete is false when an account became a customer's between the lock and the
-- read: the caller does it again. Rows of p_holds and p_postings that somebody else has locked are
-- left out.
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
    PERFORM ni.expect_session_v1(p_mode);
    SELECT l.business_date, l.next_business_date
      INTO o_business_date, o_next_business_date
      FROM ledger AS l;

    -- Sorted, before any lock: two first decisions on the same accounts cannot deadlock.
    INSERT INTO ni.position (bucket, account)
        SELECT p_bucket, x.account
          FROM unnest(p_accounts) AS x (account)
         WHERE NOT EXISTS (SELECT FROM ni.position AS p
                            WHERE p.bucket = p_bucket AND p.account = x.account OFFSET 0)
           AND EXISTS (SELECT FROM account AS b
                        WHERE b.account = x.account AND b.kind = 'customer' OFFSET 0)
         ORDER BY x.account COLLATE "C"
    ON CONFLICT DO NOTHING;
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

    SELECT * INTO v_figures FROM ni.figures_v1(p_bucket, p_floor, p_accounts);
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

-- Step 3: everything that a batch of decisions changes in one bucket. Every count is checked: a row
-- that is not as it was decided on undoes the whole batch (NI001 a broken promise, NI002 a key that
-- somebody else has just used).
CREATE OR REPLACE FUNCTION ni.write_v1(
    p_bucket smallint, p_states ni.state_change_v1[], p_holds ni.new_hold_v1[],
    p_hold_changes ni.hold_change_v1[], p_postings ni.new_posting_v1[],
    p_posting_changes ni.posting_change_v1[], p_resolutions ni.resolution_v1[],
    p_requests ni.new_request_v1[], p_events ni.new_event_v1[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_rows bigint;
BEGIN
    IF cardinality(p_states) > 0 THEN
        INSERT INTO ni.state AS s
            SELECT p_bucket, c.* FROM unnest(p_states) AS c
        ON CONFLICT (bucket, account, era) DO UPDATE
           SET created = excluded.created, held = excluded.held,
               sequence = excluded.sequence, decided_at = excluded.decided_at,
               next_expiry = excluded.next_expiry
         WHERE s.sequence < excluded.sequence;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        PERFORM ni.expect_v1('state', v_rows, cardinality(p_states));
    END IF;
    IF cardinality(p_postings) > 0 THEN
        PERFORM ni.write_postings_v1(p_bucket, p_postings);
    END IF;
    IF cardinality(p_holds) > 0 THEN
        INSERT INTO ni.hold
            SELECT p_bucket, n.*, n.created_at FROM unnest(p_holds) AS n;
    END IF;
    IF cardinality(p_hold_changes) + cardinality(p_posting_changes) > 0 THEN
        PERFORM ni.write_changes_v1(p_bucket, p_hold_changes, p_posting_changes);
    END IF;
    IF cardinality(p_resolutions) > 0 THEN
        PERFORM ni.write_resolutions_v1(p_bucket, p_resolutions);
    END IF;
    IF cardinality(p_events) > 0 THEN
        INSERT INTO ni.outbox (bucket, event_id, type, account, sequence, epoch, client,
                               movement_id, currency, amount, direction, available_after,
                               reference, narrative)
            SELECT p_bucket, e.* FROM unnest(p_events) AS e;
    END IF;
    INSERT INTO ni.request
        SELECT p_bucket, r.* FROM unnest(p_requests) AS r
         ORDER BY r.client COLLATE "C", r.key COLLATE "C"
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    IF v_rows <> cardinality(p_requests) THEN
        RAISE EXCEPTION 'a key of this batch has just been used' USING ERRCODE = 'NI002';
    END IF;
END
$$;

-- The new postings of `ni.write_v1`.
CREATE OR REPLACE FUNCTION ni.write_postings_v1(p_bucket smallint, p_postings ni.new_posting_v1[])
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    INSERT INTO ni.posting
        SELECT p_bucket, n.posting_id, n.home, n.client, n.type, n.debit_account,
               n.credit_account, n.debit_customer, n.credit_customer, n.amount, n.currency,
               n.packet, n.straight_through, 'pending', n.check_mode, n.value_date,
               n.valid_from, n.link_id, n.hold_id, n.reference, n.narrative, n.actor,
               n.legal_reference, n.debit_available_after, n.debit_sequence,
               n.credit_available_after, n.credit_sequence, n.epoch, n.created_at,
               n.created_at
          FROM unnest(p_postings) AS n;
    INSERT INTO ni.unbooked
        SELECT p_bucket, n.posting_id, n.client, coalesce(n.packet, ''), 'pending',
               n.straight_through, n.amount, n.currency,
               CASE WHEN NOT n.debit_customer THEN n.debit_account END,
               CASE WHEN NOT n.credit_customer THEN n.credit_account END
          FROM unnest(p_postings) AS n
         WHERE n.home;
END
$$;

-- The changed holds and postings of `ni.write_v1`.
CREATE OR REPLACE FUNCTION ni.write_changes_v1(
    p_bucket smallint, p_hold_changes ni.hold_change_v1[], p_posting_changes ni.posting_change_v1[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_rows    bigint;
    v_hold    ni.hold_change_v1;
    v_posting ni.posting_change_v1;
BEGIN
    FOR v_hold IN SELECT * FROM unnest(p_hold_changes) LOOP
        UPDATE ni.hold AS h
           SET status = v_hold.status, amount = v_hold.amount, captured = v_hold.captured,
               released = v_hold.released, expires_at = v_hold.expires_at,
               available_after = v_hold.available_after, sequence = v_hold.sequence,
               epoch = v_hold.epoch, changed_at = v_hold.changed_at
         WHERE h.bucket = p_bucket AND h.hold_id = v_hold.hold_id
           AND h.status = v_hold.from_status;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        PERFORM ni.expect_v1('hold', v_rows, 1);
    END LOOP;
    FOR v_posting IN SELECT * FROM unnest(p_posting_changes) LOOP
        PERFORM ni.change_posting_v1(p_bucket, v_posting);
    END LOOP;
END
$$;

-- How problems were settled, of `ni.write_v1`.
CREATE OR REPLACE FUNCTION ni.write_resolutions_v1(
    p_bucket smallint, p_resolutions ni.resolution_v1[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_rows       bigint;
    v_resolution ni.resolution_v1;
BEGIN
    FOR v_resolution IN SELECT * FROM unnest(p_resolutions) LOOP
        UPDATE ni.problem AS p
           SET resolved_at = v_resolution.resolved_at, action = v_resolution.action,
               reason = v_resolution.reason, resolved_by = v_resolution.resolved_by,
               actor = v_resolution.actor
         WHERE p.bucket = p_bucket AND p.posting_id = v_resolution.posting_id
           AND p.resolved_at IS NULL;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        PERFORM ni.expect_v1('problem', v_rows, 1);
    END LOOP;
END
$$;

-- Changes a posting's row, and what is kept of it among the unbooked.
CREATE OR REPLACE FUNCTION ni.change_posting_v1(
    p_bucket smallint, p_change ni.posting_change_v1
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_posting record;
    v_rows    bigint;
BEGIN
    UPDATE ni.posting AS p
       SET status = p_change.status,
           debit_account = p_change.debit_account,
           credit_account = p_change.credit_account,
           debit_customer = p_change.debit_customer,
           credit_customer = p_change.credit_customer,
           debit_available_after = p_change.debit_available_after,
           debit_sequence = p_change.debit_sequence,
           credit_available_after = p_change.credit_available_after,
           credit_sequence = p_change.credit_sequence, epoch = p_change.epoch,
           changed_at = p_change.changed_at, change_reason = p_change.change_reason,
           change_actor = p_change.change_actor
     WHERE p.bucket = p_bucket AND p.posting_id = p_change.posting_id
       AND p.status = p_change.from_status
    RETURNING p.client, coalesce(p.packet, '') AS packet, p.home INTO v_posting;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('posting', v_rows, 1);
    IF NOT v_posting.home THEN
        RETURN;
    END IF;
    UPDATE ni.unbooked AS u
       SET status = p_change.status,
           debit_internal = CASE WHEN NOT p_change.debit_customer
                                 THEN p_change.debit_account END,
           credit_internal = CASE WHEN NOT p_change.credit_customer
                                  THEN p_change.credit_account END
     WHERE u.bucket = p_bucket AND u.client = v_posting.client
       AND u.packet = v_posting.packet AND u.status = p_change.from_status
       AND u.posting_id = p_change.posting_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('unbooked', v_rows, 1);
END
$$;

-- Refuses a write that did not touch the rows that were decided on.
CREATE OR REPLACE FUNCTION ni.expect_v1(p_what text, p_rows bigint, p_expected bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF p_rows <> p_expected THEN
        RAISE EXCEPTION '% rows written: %, decided: %', p_what, p_rows, p_expected
            USING ERRCODE = 'NI001';
    END IF;
END
$$;
