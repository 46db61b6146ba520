-- The hot path's second half: what a transaction of decisions writes, after decide.sql has locked
-- and read.

-- Step 3: everything that a batch of decisions changes in one bucket. Every count is checked: a row
-- that is not as it was decided on undoes the whole batch (NI001: a broken promise). So does a key
-- that somebody else has just used, by the primary key of ni.request.
CREATE OR REPLACE FUNCTION ni.write_v2(
    p_bucket smallint, p_states ni.state_change_v1[], p_holds ni.new_hold_v1[],
    p_hold_changes ni.hold_change_v1[], p_postings ni.new_posting_v1[],
    p_posting_changes ni.posting_change_v1[], p_resolutions ni.resolution_v1[],
    p_requests ni.new_request_v1[], p_events ni.new_event_v2[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_lap  smallint := ni.lap_v1();
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
        IF v_rows <> cardinality(p_states) THEN
            PERFORM ni.expect_v1('state', v_rows, cardinality(p_states));
        END IF;
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
                               reference, narrative, hold_id, hold_remaining, lap)
            SELECT p_bucket, e.*, v_lap FROM unnest(p_events) AS e;
    END IF;
    INSERT INTO ni.request
        SELECT p_bucket, r.* FROM unnest(p_requests) AS r
         ORDER BY r.client COLLATE "C", r.key COLLATE "C";
END
$$;

-- The same for processes whose events do not say which hold was captured.
CREATE OR REPLACE FUNCTION ni.write_v1(
    p_bucket smallint, p_states ni.state_change_v1[], p_holds ni.new_hold_v1[],
    p_hold_changes ni.hold_change_v1[], p_postings ni.new_posting_v1[],
    p_posting_changes ni.posting_change_v1[], p_resolutions ni.resolution_v1[],
    p_requests ni.new_request_v1[], p_events ni.new_event_v1[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM ni.write_v2(
        p_bucket, p_states, p_holds, p_hold_changes, p_postings, p_posting_changes, p_resolutions,
        p_requests,
        ARRAY(SELECT ROW(e.*, NULL, NULL)::ni.new_event_v2 FROM unnest(p_events) AS e));
END
$$;

-- The new postings of `ni.write_v2`, what is kept of them among the unbooked, and the events of
-- their creation on customers' accounts.
CREATE OR REPLACE FUNCTION ni.write_postings_v1(p_bucket smallint, p_postings ni.new_posting_v1[])
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_lap smallint := ni.lap_v1();
BEGIN
    WITH n AS MATERIALIZED (
        SELECT * FROM unnest(p_postings)
    ), written AS (
        INSERT INTO ni.posting
            SELECT p_bucket, n.posting_id, n.home, n.client, n.type, n.debit_account,
                   n.credit_account, n.debit_customer, n.credit_customer, n.amount, n.currency,
                   n.packet, n.straight_through, 'pending', n.check_mode, n.value_date,
                   n.valid_from, n.link_id, n.hold_id, n.reference, n.narrative, n.actor,
                   n.legal_reference, n.debit_available_after, n.debit_sequence,
                   n.credit_available_after, n.credit_sequence, n.epoch, n.created_at,
                   n.created_at
              FROM n
    ), unbooked AS (
        INSERT INTO ni.unbooked
            SELECT p_bucket, n.posting_id, n.client, coalesce(n.packet, ''), 'pending',
                   n.straight_through, n.amount, n.currency,
                   CASE WHEN NOT n.debit_customer THEN n.debit_account END,
                   CASE WHEN NOT n.credit_customer THEN n.credit_account END, n.link_id
              FROM n WHERE n.home
    )
    INSERT INTO ni.outbox (bucket, event_id, type, account, sequence, epoch, client,
                           movement_id, currency, amount, direction, available_after,
                           reference, narrative, lap)
        SELECT p_bucket, e.event_id, 'ni.posting.created', e.account, e.sequence, n.epoch,
               n.client, n.posting_id, n.currency, n.amount, e.direction, e.available_after,
               n.reference, n.narrative, v_lap
          FROM n CROSS JOIN LATERAL (VALUES
               (n.debit_event_id, n.debit_account, n.debit_sequence, -1, n.debit_available_after),
               (n.credit_event_id, n.credit_account, n.credit_sequence, 1,
                n.credit_available_after)
               ) AS e (event_id, account, sequence, direction, available_after)
         WHERE e.event_id IS NOT NULL;
END
$$;

-- The changed holds and postings of `ni.write_v2`.
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
        IF (v_posting.entering).posting_id IS NULL THEN
            PERFORM ni.change_posting_v1(p_bucket, v_posting);
        ELSE
            PERFORM ni.enter_posting_v1(p_bucket, v_posting);
        END IF;
    END LOOP;
END
$$;

-- How problems were settled, of `ni.write_v2`.
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
           debit_redirected = p_change.debit_redirected,
           credit_redirected = p_change.credit_redirected,
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

-- Gives a posting that was redirected its second row in a bucket: a new one, or the one that it had
-- left there when it was redirected away.
CREATE OR REPLACE FUNCTION ni.enter_posting_v1(
    p_bucket smallint, p_change ni.posting_change_v1
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    n      ni.new_posting_v1 := p_change.entering;
    v_rows bigint;
BEGIN
    INSERT INTO ni.posting AS p
        VALUES (p_bucket, n.posting_id, n.home, n.client, n.type, n.debit_account,
                n.credit_account, n.debit_customer, n.credit_customer, n.amount, n.currency,
                n.packet, n.straight_through, p_change.from_status, n.check_mode, n.value_date,
                n.valid_from, n.link_id, n.hold_id, n.reference, n.narrative, n.actor,
                n.legal_reference, n.debit_available_after, n.debit_sequence,
                n.credit_available_after, n.credit_sequence, n.epoch, n.created_at,
                p_change.changed_at)
    ON CONFLICT (bucket, posting_id) DO UPDATE
       SET status = excluded.status, packet = excluded.packet
     WHERE p.status = 'cancelled' AND NOT p.home;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('entering', v_rows, 1);
    PERFORM ni.change_posting_v1(p_bucket, p_change);
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
