-- Unloading: a packet's postings reach the core under one commit.
--
-- Order, the only one: unload gate, packet row, postings by id, the customers' core accounts by
-- account; in a LATER statement the verdict; then entries, balances, applied, statuses; internal
-- accounts last of all, for they are in every packet. Positions and states are never touched, so
-- no decision waits for an unload and no unload for a decision.
--
-- These functions run as their owner: the engine's role has no right on the core's tables.

-- Enters the unload gate and locks the packet's row. o_closed: the core is closed, or closing; no
-- o_number: no posting has ever named the packet.
CREATE OR REPLACE FUNCTION ni.enter_unload_v1(
    p_client text, p_packet text, OUT o_closed boolean, OUT o_number integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    BEGIN
        LOCK TABLE ni.unload_gate IN ROW SHARE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        o_closed := true;
        RETURN;
    END;
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode <> 'day' INTO o_closed FROM ni.mode AS m WHERE m.one;
    IF o_closed THEN
        RETURN;
    END IF;
    INSERT INTO ni.packet (bucket, client, packet, last_number, created_at)
        SELECT 0, p_client, p_packet, 0, ni.clock()
         WHERE EXISTS (SELECT FROM ni.posting AS t
                        WHERE t.client = p_client AND t.packet = p_packet AND t.home)
    ON CONFLICT DO NOTHING;
    SELECT p.last_number INTO o_number
      FROM ni.packet AS p
     WHERE p.bucket = 0 AND p.client = p_client AND p.packet = p_packet
       FOR NO KEY UPDATE;
END
$$;

-- Locks and returns the postings of a packet in one status, by id; amounts and accounts are taken
-- from these rows alone. p_only limits them (to find what the core cannot book).
CREATE OR REPLACE FUNCTION ni.take_postings_v1(
    p_client text, p_packet text, p_status text, p_number integer, p_only uuid[],
    p_limit integer
) RETURNS ni.taken_posting_v1[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_taken ni.taken_posting_v1[];
BEGIN
    SELECT array_agg(ROW(t.bucket, t.posting_id, t.client, t.debit_account, t.credit_account,
                         t.debit_customer, t.credit_customer, t.amount, t.currency,
                         t.value_date, t.link_id, t.reference, t.narrative,
                         t.legal_reference)::ni.taken_posting_v1)
      INTO v_taken
      FROM (SELECT * FROM ni.posting AS p
             WHERE p.client = p_client AND p.packet = p_packet AND p.status = p_status
               AND p.home AND (p_number IS NULL OR p.unload_number = p_number)
               AND (p_only IS NULL OR p.posting_id = ANY (p_only))
             ORDER BY p.posting_id
             LIMIT p_limit
               FOR UPDATE) AS t;
    RETURN coalesce(v_taken, '{}');
END
$$;

-- Locks the customers' core accounts of postings, by account.
CREATE OR REPLACE FUNCTION ni.lock_core_accounts_v1(
    p_taken ni.taken_posting_v1[], p_customers boolean
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_accounts text[];
BEGIN
    SELECT array_agg(DISTINCT s.account) INTO v_accounts
      FROM unnest(p_taken) AS t
     CROSS JOIN LATERAL (VALUES (t.debit_account, t.debit_customer),
                                (t.credit_account, t.credit_customer)) AS s (account, customer)
     WHERE s.customer = p_customers;
    PERFORM FROM core.account AS a
      WHERE a.account = ANY (v_accounts)
      ORDER BY a.account
        FOR NO KEY UPDATE;
END
$$;

-- The verdict: which postings the core cannot book as it is now, and why. One statement, one
-- snapshot, after the locks; the run records that snapshot. p_failed: those that the core has
-- refused with an error of its own.
CREATE OR REPLACE FUNCTION ni.judge_v1(
    p_taken ni.taken_posting_v1[], p_failed ni.verdict_v1[], p_packet text,
    OUT o_verdicts ni.verdict_v1[], OUT o_at timestamptz, OUT o_snapshot pg_snapshot
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    o_at := ni.clock();
    WITH side AS MATERIALIZED (
        SELECT t.posting_id, s.account, s.ordinal, a.kind, a.status, a.currency,
               t.currency AS asked, s.customer, t.legal_reference, b.block
          FROM unnest(p_taken) AS t
         CROSS JOIN LATERAL (VALUES (1, 'debit', t.debit_account, t.debit_customer),
                                    (2, 'credit', t.credit_account, t.credit_customer))
                    AS s (ordinal, side, account, customer)
          LEFT JOIN core.account AS a ON a.account = s.account
          LEFT JOIN (SELECT k.account, w.side, min(k.legal_reference) AS block
                       FROM core.block AS k
                      CROSS JOIN (VALUES ('debit'), ('credit')) AS w (side)
                      WHERE k.side IN (w.side, 'all') AND k.valid_from <= o_at
                        AND (k.valid_to IS NULL OR k.valid_to > o_at)
                      GROUP BY k.account, w.side) AS b
            ON b.account = s.account AND b.side = s.side
    ), found AS MATERIALIZED (
        SELECT DISTINCT ON (f.posting_id) f.posting_id, f.code, f.detail
          FROM (SELECT s.posting_id, s.ordinal, concat_ws(': ', s.account, s.block) AS detail,
                       CASE WHEN s.kind IS NULL THEN 'account_not_found'
                            WHEN (s.kind = 'customer') <> s.customer
                            THEN 'account_kind_mismatch'
                            WHEN s.currency <> s.asked THEN 'currency_mismatch'
                            WHEN s.status = 'closed' THEN 'account_closed'
                            WHEN s.block IS NOT NULL AND s.legal_reference IS NULL
                            THEN 'account_blocked' END AS code
                  FROM side AS s
                UNION ALL
                SELECT e.posting_id, 3, e.detail, e.code FROM unnest(p_failed) AS e) AS f
         WHERE f.code IS NOT NULL
         ORDER BY f.posting_id, f.ordinal
    ), broken_link AS (
        SELECT t.link_id FROM unnest(p_taken) AS t JOIN found AS f USING (posting_id)
        UNION
        SELECT p.link_id FROM ni.posting AS p
         WHERE p.client = p_taken[1].client AND p.packet = p_packet
           AND p.status = 'problem' AND p.home
    )
    SELECT array_agg(ROW(v.posting_id, v.code, v.detail)::ni.verdict_v1),
           pg_current_snapshot()
      INTO o_verdicts, o_snapshot
      FROM (SELECT f.posting_id, f.code, f.detail FROM found AS f
            UNION ALL
            SELECT t.posting_id, 'linked_problem', t.link_id::text
              FROM unnest(p_taken) AS t
             WHERE t.link_id IN (SELECT l.link_id FROM broken_link AS l)
               AND t.posting_id NOT IN (SELECT f.posting_id FROM found AS f)) AS v;
    o_verdicts := coalesce(o_verdicts, '{}');
END
$$;

-- Writes the entries of postings into a packet of the core: a debit and a credit leg each.
CREATE OR REPLACE FUNCTION ni.write_entries_v1(
    p_core_packet bigint, p_postings ni.taken_posting_v1[], p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_rows bigint;
BEGIN
    INSERT INTO core.entry (packet_id, account, amount, currency, value_date, business_date,
                            booked_at, narrative, reference, legal_reference, posting_id,
                            link_id)
        SELECT p_core_packet, s.account, s.amount, t.currency, t.value_date, l.business_date,
               p_at, t.narrative, t.reference, t.legal_reference, t.posting_id, t.link_id
          FROM unnest(p_postings) AS t
         CROSS JOIN core.ledger AS l
         CROSS JOIN LATERAL (VALUES (t.debit_account, -t.amount),
                                    (t.credit_account, t.amount)) AS s (account, amount)
         ORDER BY s.account;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('entry', v_rows, 2 * cardinality(p_postings));
END
$$;

-- Lets postings count in the core: the customers' balances and NI's `applied` change together, so
-- that no available balance moves. Internal accounts are not touched here.
CREATE OR REPLACE FUNCTION ni.apply_customers_v1(p_postings ni.taken_posting_v1[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_buckets  smallint := (SELECT i.buckets FROM ni.installation AS i);
    v_nets     bigint;
    v_balances bigint;
BEGIN
    WITH net AS MATERIALIZED (
        SELECT s.account, sum(s.amount)::bigint AS amount
          FROM unnest(p_postings) AS t
         CROSS JOIN LATERAL (VALUES (t.debit_account, t.debit_customer, -t.amount),
                                    (t.credit_account, t.credit_customer, t.amount))
                    AS s (account, customer, amount)
         WHERE s.customer
         GROUP BY s.account
    ), balance AS (
        UPDATE core.account AS a SET balance = a.balance + n.amount
          FROM net AS n WHERE a.account = n.account
        RETURNING 1
    ), applied AS (
        INSERT INTO ni.applied AS a (bucket, account, applied)
            SELECT crc32(convert_to(n.account, 'UTF8')) % v_buckets, n.account, n.amount
              FROM net AS n ORDER BY 1, n.account COLLATE "C"
        ON CONFLICT (bucket, account) DO UPDATE SET applied = a.applied + excluded.applied
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM net), least((SELECT count(*) FROM balance),
                                             (SELECT count(*) FROM applied))
      INTO v_nets, v_balances;
    PERFORM ni.expect_v1('balance', v_balances, v_nets);
END
$$;

-- The last step: the accounts that are in every packet, locked by account as late as can be.
-- Tested again under the lock: whoever closed or blocked one since the verdict undoes the run,
-- and the caller does it again (NI003).
CREATE OR REPLACE FUNCTION ni.apply_internal_v1(
    p_postings ni.taken_posting_v1[], p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_again ni.verdict_v1[];
BEGIN
    PERFORM ni.lock_core_accounts_v1(p_postings, false);
    IF EXISTS (
        SELECT FROM unnest(p_postings) AS t
         CROSS JOIN LATERAL (VALUES ('debit', t.debit_account, t.debit_customer),
                                    ('credit', t.credit_account, t.credit_customer))
                    AS s (side, account, customer)
          LEFT JOIN core.account AS a ON a.account = s.account
         WHERE NOT s.customer
           AND (a.account IS NULL OR a.status = 'closed' OR a.kind = 'customer'
                OR a.currency <> t.currency
                OR t.legal_reference IS NULL AND EXISTS (
                    SELECT FROM core.block AS b
                     WHERE b.account = a.account AND b.side IN (s.side, 'all')
                       AND b.valid_from <= p_at
                       AND (b.valid_to IS NULL OR b.valid_to > p_at)))) THEN
        RAISE EXCEPTION 'an internal account has changed since the verdict'
            USING ERRCODE = 'NI003';
    END IF;
    UPDATE core.account AS a SET balance = a.balance + n.amount
      FROM (SELECT s.account, sum(s.amount)::bigint AS amount
              FROM unnest(p_postings) AS t
             CROSS JOIN LATERAL (VALUES (t.debit_account, t.debit_customer, -t.amount),
                                        (t.credit_account, t.credit_customer, t.amount))
                        AS s (account, customer, amount)
             WHERE NOT s.customer
             GROUP BY s.account) AS n
     WHERE a.account = n.account;
END
$$;

-- Gives postings their new status, only from the one that they were taken in, and tells it.
CREATE OR REPLACE FUNCTION ni.mark_postings_v1(
    p_postings ni.taken_posting_v1[], p_from text, p_to text, p_packet text, p_number integer,
    p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_rows bigint;
BEGIN
    UPDATE ni.posting AS p
       SET status = p_to, unload_number = p_number, packet = p_packet, changed_at = p_at
      FROM unnest(p_postings) AS t
     WHERE p.bucket = t.bucket AND p.posting_id = t.posting_id AND p.status = p_from;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('posting', v_rows, cardinality(p_postings));
    -- The second rows, in the bucket of the other customer, follow.
    UPDATE ni.posting AS p
       SET status = p_to, unload_number = p_number, packet = p_packet, changed_at = p_at
      FROM unnest(p_postings) AS t
     WHERE t.debit_customer AND t.credit_customer
       AND p.bucket = ni.bucket_of(t.credit_account) AND p.bucket <> t.bucket
       AND p.posting_id = t.posting_id;
    IF p_to IN ('booked', 'problem') THEN
        INSERT INTO ni.outbox (bucket, event_id, type, epoch, client, movement_id, currency,
                               amount, reference, narrative, packet, packet_number)
            SELECT t.bucket, ni.event_id_v1(t.bucket), 'ni.posting.' || p_to, m.epoch, t.client,
                   t.posting_id, t.currency, t.amount, t.reference, t.narrative, p_packet, p_number
              FROM unnest(p_postings) AS t CROSS JOIN ni.mode AS m;
    END IF;
END
$$;

-- Leaves postings as problems, each with its reason.
CREATE OR REPLACE FUNCTION ni.raise_problems_v1(
    p_postings ni.taken_posting_v1[], p_verdicts ni.verdict_v1[], p_from text, p_packet text,
    p_number integer, p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM ni.mark_postings_v1(p_postings, p_from, 'problem', p_packet, p_number, p_at);
    INSERT INTO ni.problem (bucket, posting_id, raised_at, client, packet, number, code, detail)
        SELECT t.bucket, t.posting_id, p_at, t.client, p_packet, p_number, v.code, v.detail
          FROM unnest(p_postings) AS t
          JOIN unnest(p_verdicts) AS v USING (posting_id);
END
$$;

-- Books what was taken, in one transaction with whoever called: the problems stay, the rest goes
-- to the core. Not accepted: it waits there and does not count. The answer is the run's row.
CREATE OR REPLACE FUNCTION ni.unload_v1(
    p_client text, p_packet text, p_number integer, p_accepted boolean, p_by text,
    p_taken ni.taken_posting_v1[], p_failed ni.verdict_v1[]
) RETURNS ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_judged   record;
    v_good     ni.taken_posting_v1[];
    v_bad      ni.taken_posting_v1[];
    v_run      ni.unload;
    v_core_id  bigint;
BEGIN
    PERFORM ni.lock_core_accounts_v1(p_taken, true);
    SELECT * INTO v_judged FROM ni.judge_v1(p_taken, p_failed, p_packet);
    SELECT array_agg(t) FILTER (WHERE v.posting_id IS NULL),
           array_agg(t) FILTER (WHERE v.posting_id IS NOT NULL)
      INTO v_good, v_bad
      FROM unnest(p_taken) AS t
      LEFT JOIN unnest(v_judged.o_verdicts) AS v USING (posting_id);
    IF v_good IS NOT NULL THEN
        INSERT INTO core.packet (client, packet, number, status, booked_at)
        VALUES (p_client, p_packet, p_number,
                CASE WHEN p_accepted THEN 'accepted' ELSE 'waiting' END, v_judged.o_at)
        RETURNING packet_id INTO v_core_id;
        PERFORM ni.write_entries_v1(v_core_id, v_good, v_judged.o_at);
        PERFORM ni.mark_postings_v1(
            v_good, 'pending', CASE WHEN p_accepted THEN 'booked' ELSE 'awaiting_acceptance' END,
            p_packet, p_number, v_judged.o_at);
        IF p_accepted THEN
            PERFORM ni.apply_customers_v1(v_good);
        END IF;
    END IF;
    IF v_bad IS NOT NULL THEN
        PERFORM ni.raise_problems_v1(v_bad, v_judged.o_verdicts, 'pending', p_packet,
                                     p_number, v_judged.o_at);
    END IF;
    INSERT INTO ni.unload
        SELECT 0, p_client, p_packet, p_number,
               CASE WHEN v_good IS NULL THEN 'none_booked'
                    WHEN NOT p_accepted THEN 'awaiting_acceptance'
                    WHEN v_bad IS NULL THEN 'booked' ELSE 'partly_booked' END,
               p_accepted, p_by, v_judged.o_at, v_judged.o_snapshot, l.business_date,
               coalesce(cardinality(v_good), 0), coalesce(cardinality(v_bad), 0),
               ni.totals_v1(v_good), v_core_id
          FROM core.ledger AS l
    RETURNING * INTO v_run;
    PERFORM ni.finish_unload_v1(v_run);
    IF p_accepted AND v_good IS NOT NULL THEN
        PERFORM ni.apply_internal_v1(v_good, v_judged.o_at);
    END IF;
    RETURN v_run;
END
$$;

-- The sum of postings in minor units, by currency.
CREATE OR REPLACE FUNCTION ni.totals_v1(p_postings ni.taken_posting_v1[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog
AS $$
BEGIN
    RETURN coalesce(
        (SELECT jsonb_object_agg(c.currency, c.total)
           FROM (SELECT t.currency, sum(t.amount) AS total
                   FROM unnest(p_postings) AS t GROUP BY t.currency) AS c), '{}');
END
$$;

-- The run's number on the packet's row, and its event.
CREATE OR REPLACE FUNCTION ni.finish_unload_v1(p_run ni.unload) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE ni.packet AS p SET last_number = greatest(p.last_number, p_run.number)
     WHERE p.bucket = 0 AND p.client = p_run.client AND p.packet = p_run.packet;
    INSERT INTO ni.outbox (bucket, event_id, type, epoch, client, packet, packet_number, detail)
        SELECT 0, ni.event_id_v1(0::smallint), 'ni.packet.unloaded', m.epoch, p_run.client,
               p_run.packet, p_run.number, p_run.status
          FROM ni.mode AS m;
END
$$;

-- An id for an event that no decision made: UUIDv7 with the bucket in its last 16 bits.
CREATE OR REPLACE FUNCTION ni.event_id_v1(p_bucket smallint) RETURNS uuid
LANGUAGE sql VOLATILE
AS $$
    SELECT encode(substring(uuid_send(uuidv7()) FROM 1 FOR 14) || int2send(p_bucket),
                  'hex')::uuid
$$;

-- A run of a packet that the caller has entered: takes what is pending now and books it. No row:
-- nothing was pending.
CREATE OR REPLACE FUNCTION ni.unload_packet_v1(
    p_client text, p_packet text, p_number integer, p_accepted boolean, p_by text,
    p_failed ni.verdict_v1[], p_only uuid[], p_limit integer
) RETURNS SETOF ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_taken ni.taken_posting_v1[];
BEGIN
    v_taken := ni.take_postings_v1(p_client, p_packet, 'pending', NULL, p_only, p_limit);
    IF cardinality(v_taken) > 0 THEN
        RETURN NEXT ni.unload_v1(p_client, p_packet, p_number, p_accepted, p_by, v_taken,
                                 p_failed);
    END IF;
END
$$;

-- Accepts a run that waits: every posting is tested again, what fails becomes a problem and its
-- entries go; the rest counts from this commit on, in the core and no longer in NI.
CREATE OR REPLACE FUNCTION ni.accept_unload_v1(
    p_client text, p_packet text, p_number integer, p_by text, p_actor text
) RETURNS ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_taken  ni.taken_posting_v1[];
    v_judged record;
    v_good   ni.taken_posting_v1[];
    v_bad    ni.taken_posting_v1[];
    v_run    ni.unload;
BEGIN
    v_taken := ni.take_postings_v1(p_client, p_packet, 'awaiting_acceptance', p_number, NULL,
                                   NULL);
    PERFORM ni.lock_core_accounts_v1(v_taken, true);
    SELECT * INTO v_judged FROM ni.judge_v1(v_taken, '{}', p_packet);
    SELECT coalesce(array_agg(t) FILTER (WHERE v.posting_id IS NULL), '{}'),
           coalesce(array_agg(t) FILTER (WHERE v.posting_id IS NOT NULL), '{}')
      INTO v_good, v_bad
      FROM unnest(v_taken) AS t
      LEFT JOIN unnest(v_judged.o_verdicts) AS v USING (posting_id);
    UPDATE ni.unload AS u
       SET status = CASE WHEN v_good = '{}' THEN 'none_booked'
                         WHEN v_bad = '{}' AND u.problems = 0 THEN 'booked'
                         ELSE 'partly_booked' END,
           accepted = true, decided_by = p_by, decided_at = v_judged.o_at, actor = p_actor,
           verdict_at = v_judged.o_at, verdict_snapshot = v_judged.o_snapshot,
           totals = ni.totals_v1(v_good),
           booked = cardinality(v_good), problems = u.problems + cardinality(v_bad)
     WHERE u.bucket = 0 AND u.client = p_client AND u.packet = p_packet
       AND u.number = p_number AND u.status = 'awaiting_acceptance'
    RETURNING * INTO STRICT v_run;
    DELETE FROM core.entry AS e
     USING unnest(v_bad) AS t
     WHERE e.packet_id = v_run.core_packet_id AND e.posting_id = t.posting_id;
    UPDATE core.packet AS c SET status = 'accepted', booked_at = v_judged.o_at
     WHERE c.packet_id = v_run.core_packet_id;
    -- They count from now on, so they are booked now.
    UPDATE core.entry AS e SET booked_at = v_judged.o_at, business_date = l.business_date
      FROM core.ledger AS l
     WHERE e.packet_id = v_run.core_packet_id;
    PERFORM ni.mark_postings_v1(v_good, 'awaiting_acceptance', 'booked', p_packet, p_number,
                                v_judged.o_at);
    PERFORM ni.apply_customers_v1(v_good);
    PERFORM ni.raise_problems_v1(v_bad, v_judged.o_verdicts, 'awaiting_acceptance', p_packet,
                                 p_number, v_judged.o_at);
    PERFORM ni.finish_unload_v1(v_run);
    PERFORM ni.apply_internal_v1(v_good, v_judged.o_at);
    RETURN v_run;
END
$$;

-- Rejects a run that waits: its entries leave the core, its postings are pending again.
CREATE OR REPLACE FUNCTION ni.reject_unload_v1(
    p_client text, p_packet text, p_number integer, p_by text, p_actor text, p_reason text
) RETURNS ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_taken ni.taken_posting_v1[];
    v_at    timestamptz := ni.clock();
    v_run   ni.unload;
BEGIN
    v_taken := ni.take_postings_v1(p_client, p_packet, 'awaiting_acceptance', p_number, NULL,
                                   NULL);
    UPDATE ni.unload AS u
       SET status = 'rejected', decided_by = p_by, decided_at = v_at, actor = p_actor,
           reason = p_reason, booked = 0, totals = '{}'
     WHERE u.bucket = 0 AND u.client = p_client AND u.packet = p_packet
       AND u.number = p_number AND u.status = 'awaiting_acceptance'
    RETURNING * INTO STRICT v_run;
    DELETE FROM core.entry AS e WHERE e.packet_id = v_run.core_packet_id;
    UPDATE core.packet AS c SET status = 'rejected' WHERE c.packet_id = v_run.core_packet_id;
    PERFORM ni.mark_postings_v1(v_taken, 'awaiting_acceptance', 'pending', p_packet, p_number,
                                v_at);
    RETURN v_run;
END
$$;

-- What a debit that the core starts itself may take: locks NI's position of the account in the
-- core's own transaction, so that the core and NI never spend the same money, and returns what is
-- available. By day only, and only in short transactions: decisions on the account wait for it.
CREATE OR REPLACE FUNCTION ni.lock_available(p_account text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = day_alias
AS $$
DECLARE
    v_figures record;
    v_view    ni.account_view_v1;
    v_bucket  smallint := ni.bucket_of(p_account);
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m WHERE m.one) THEN
        RAISE EXCEPTION 'by night NI decides on its copy; ask again by day'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO ni.position (bucket, account)
        SELECT v_bucket, b.account FROM account AS b
         WHERE b.account = p_account AND b.kind = 'customer'
    ON CONFLICT DO NOTHING;
    PERFORM FROM ni.position AS p
      WHERE p.bucket = v_bucket AND p.account = p_account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is no customer account', p_account USING ERRCODE = 'no_data_found';
    END IF;
    SELECT * INTO v_figures FROM ni.figures_v1(v_bucket, '-infinity', ARRAY[p_account]);
    v_view := v_figures.accounts[1];
    RETURN v_view.base + v_view.credit_limit
           + coalesce(v_view.created, 0) - coalesce(v_view.applied, 0)
           - (coalesce(v_view.held, 0) - coalesce(v_view.expired, 0));
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.enter_unload_v1, ni.take_postings_v1, ni.lock_core_accounts_v1, ni.judge_v1,
    ni.write_entries_v1, ni.apply_customers_v1, ni.apply_internal_v1, ni.mark_postings_v1,
    ni.raise_problems_v1, ni.unload_v1, ni.finish_unload_v1, ni.unload_packet_v1,
    ni.accept_unload_v1, ni.reject_unload_v1, ni.lock_available FROM public;
GRANT EXECUTE ON FUNCTION
    ni.enter_unload_v1, ni.unload_packet_v1, ni.accept_unload_v1, ni.reject_unload_v1
    TO ni_engine;
GRANT EXECUTE ON FUNCTION ni.lock_available TO ni_core;
GRANT USAGE ON SCHEMA ni TO ni_core;

-- Straight-through postings that wait for a packet: at most p_limit, the oldest first, given the
-- name of a packet of their client, currency and business date. Those that a problem has brought
-- back keep theirs. Rows that another worker has locked are left to it. Returns the packets.
CREATE OR REPLACE FUNCTION ni.group_straight_through_v1(
    p_floor uuid, p_postings_max integer, p_limit integer
) RETURNS TABLE (client text, packet text, postings bigint, newest uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m WHERE m.one) THEN
        RETURN;
    END IF;
    RETURN QUERY
        WITH waiting AS MATERIALIZED (
            SELECT p.bucket, p.posting_id, p.client, p.currency, p.packet
              FROM ni.posting AS p
             WHERE p.straight_through AND p.status = 'pending' AND p.home
               AND p.posting_id >= p_floor
             ORDER BY p.posting_id
             LIMIT p_limit
               FOR NO KEY UPDATE SKIP LOCKED
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
        )
        SELECT n.client, n.name, count(*), max(n.posting_id::text)::uuid
          FROM named AS n
         WHERE (SELECT count(*) FROM changed) >= 0
         GROUP BY n.client, n.name
         ORDER BY min(n.posting_id::text);
END
$$;
REVOKE EXECUTE ON FUNCTION ni.group_straight_through_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.group_straight_through_v1 TO ni_engine;
