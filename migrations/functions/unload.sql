-- Unloading: a packet's postings reach the core under one commit.
--
-- Order, the only one: unload gate, packet row, postings by id, the customers' core accounts by
-- account; in a LATER statement the verdict; then entries, statuses, balances and applied;
-- internal accounts last of all, for they are in every packet. Positions and states are never
-- touched, so no decision waits for an unload and no unload for a decision. book.sql has what is
-- written, accept.sql what becomes of a run that waits.
--
-- These functions run as their owner: the engine's role has no right on the core's tables.
--
-- Postings are passed on as the places of their rows (ctid). A row that is locked stays in its
-- place, to be read there without an index; an array of whole rows would be copied and taken apart
-- again in each statement. Plans are generic, for a plan made for the very array at hand copies
-- it, too, and each function says which joins fit: by key, row by row, whatever is known of the
-- tables; or by hash, where what was taken meets an array.

-- Enters the unload gate and locks the packet's row. o_closed: the core is closed, or closing; no
-- o_number: no posting has ever named the packet.
CREATE OR REPLACE FUNCTION ni.enter_unload_v1(
    p_client text, p_packet text, OUT o_closed boolean, OUT o_number integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
    -- Notes the packet for a close that waits; nobody waits for this lock.
    PERFORM pg_advisory_xact_lock_shared(28265, ni.packet_note_v1(p_client, p_packet));
    -- What the core holds as a whole is not waited for: the caller tries again, holding nothing.
    LOCK TABLE core.account, core.packet, core.entry IN ROW EXCLUSIVE MODE NOWAIT;
    LOCK TABLE core.block, core.ledger IN ACCESS SHARE MODE NOWAIT;
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

-- Locks the postings of a packet in one status, by id, and takes them out of the unbooked: whoever
-- marks them puts those back that are not booked. Amounts and accounts are read from these rows
-- alone. p_only limits them (to find what the core cannot book).
CREATE OR REPLACE FUNCTION ni.take_postings_v1(
    p_client text, p_packet text, p_status text, p_number integer, p_only uuid[],
    p_limit integer
) RETURNS tid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_places tid[];
    v_kept   tid[];
    v_rows   bigint;
BEGIN
    SELECT array_agg(t.place), array_agg(u.kept) INTO v_places, v_kept
      FROM (SELECT n.bucket, n.posting_id, n.kept
              FROM ni.postings_of_run_v1(p_client, p_packet, p_status, p_limit) AS n
             WHERE p_only IS NULL
                OR n.posting_id IN (SELECT o.id FROM unnest(p_only) AS o (id))
             ORDER BY n.posting_id) AS u
     CROSS JOIN LATERAL (
        SELECT p.ctid AS place FROM ni.posting AS p
         WHERE p.bucket = u.bucket AND p.posting_id = u.posting_id AND p.packet = p_packet
           AND p.status = p_status AND (p_number IS NULL OR p.unload_number = p_number)
           FOR UPDATE) AS t;
    IF v_places IS NULL THEN
        RETURN '{}';
    END IF;
    DELETE FROM ni.unbooked AS n
     WHERE n.ctid = ANY (v_kept) AND n.status = p_status  -- joined to '': by place, by no index
       AND n.client || '' = p_client AND n.packet || '' = p_packet;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('unbooked', v_rows, cardinality(v_places));
    RETURN v_places;
END
$$;

-- The two sides of postings; amounts are signed. A legal reference is the order against the side's
-- first account. Inlined where it is named.
CREATE OR REPLACE FUNCTION ni.legs_v1(p_places tid[])
RETURNS TABLE (
    posting_id uuid, ordinal integer, side text, account text, customer boolean,
    amount bigint, currency text, value_date date, link_id uuid, reference text,
    narrative text, legal_reference text
)
LANGUAGE sql STABLE
AS $$
    SELECT p.posting_id, 1, 'debit', p.debit_account, p.debit_customer, -p.amount, p.currency,
           p.value_date, p.link_id, p.reference, p.narrative,
           CASE WHEN NOT p.debit_redirected THEN p.legal_reference END
      FROM ni.posting AS p WHERE p.ctid = ANY (p_places)
    UNION ALL
    SELECT p.posting_id, 2, 'credit', p.credit_account, p.credit_customer, p.amount,
           p.currency, p.value_date, p.link_id, p.reference, p.narrative,
           CASE WHEN NOT p.credit_redirected THEN p.legal_reference END
      FROM ni.posting AS p WHERE p.ctid = ANY (p_places)
$$;

-- What postings bring to each account that they name and ask of it: the net of its legs, and
-- whether a block of a side would concern one of them.
CREATE OR REPLACE FUNCTION ni.nets_v1(p_places tid[]) RETURNS ni.account_net_v1[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN ARRAY(
        SELECT ROW(l.account, l.customer, l.currency, sum(l.amount),
                   bool_or(l.side = 'debit' AND l.legal_reference IS NULL),
                   bool_or(l.side = 'credit' AND l.legal_reference IS NULL))::ni.account_net_v1
          FROM ni.legs_v1(p_places) AS l
         GROUP BY l.account, l.customer, l.currency);
END
$$;

-- Locks core accounts, by account, without ever standing in a queue: whoever waits for a row while
-- it holds others can be part of a deadlock, and the server may choose the core as its victim.
-- What another transaction holds is asked for again every 5 ms, as long as the session's
-- lock_timeout says, or half of it: of two runs that hold rows of each other one gives way first.
-- Returns those that the core does not have.
CREATE OR REPLACE FUNCTION ni.lock_core_accounts_v1(p_accounts text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_left  text[] := p_accounts;
    v_all   text[] := '{}';
    v_got   text[];
    v_tries integer := extract(epoch FROM current_setting('lock_timeout')::interval)
                       * 200 * (0.5 + random() / 2);
BEGIN
    LOOP
        SELECT array_agg(l.account) INTO v_got
          FROM (SELECT a.account FROM core.account AS a
                 WHERE a.account = ANY (v_left)
                 ORDER BY a.account
                   FOR NO KEY UPDATE SKIP LOCKED) AS l;
        v_all := v_all || v_got;
        EXIT WHEN cardinality(v_got) = cardinality(v_left);
        -- In a later statement, those that are there and were not had.
        SELECT array_agg(a.account) INTO v_left
          FROM core.account AS a
         WHERE a.account = ANY (v_left)
           AND a.account NOT IN (SELECT g.account FROM unnest(v_got) AS g (account));
        EXIT WHEN v_left IS NULL;
        IF v_tries <= 0 THEN
            RAISE EXCEPTION 'the core holds its account %', v_left[1]
                USING ERRCODE = 'lock_not_available';
        END IF;
        v_tries := v_tries - 1;
        PERFORM pg_sleep(0.005);
    END LOOP;
    IF cardinality(v_all) = cardinality(p_accounts) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT p.account FROM unnest(p_accounts) AS p (account)
                  WHERE p.account NOT IN (SELECT g.account FROM unnest(v_all) AS g (account)));
END
$$;

-- The verdict: which postings the core cannot book as it is now, and why. One statement, one
-- snapshot, after the locks; the run records that snapshot. p_nets: all the accounts that the
-- postings name; their rows are found by key, in the order of the pages, and met by hash. p_failed:
-- the postings that the core has refused with an error of its own.
CREATE OR REPLACE FUNCTION ni.judge_v1(
    p_client text, p_packet text, p_places tid[], p_nets ni.account_net_v1[],
    p_failed ni.verdict_v1[], OUT o_verdicts ni.verdict_v1[], OUT o_at timestamptz,
    OUT o_snapshot pg_snapshot
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET enable_hashjoin = on SET enable_mergejoin = off
AS $$
DECLARE
    v_accounts text[] := ARRAY(SELECT n.account FROM unnest(p_nets) AS n);
BEGIN
    o_at := ni.clock();
    WITH refusing AS MATERIALIZED (
        SELECT n.account, n.currency, a.kind, a.status, a.currency AS kept_in, b.debit, b.credit
          FROM unnest(p_nets) AS n
          LEFT JOIN core.account AS a
            ON a.account = n.account AND a.account = ANY (v_accounts)
          LEFT JOIN (
            SELECT k.account,
                   min(k.legal_reference) FILTER (WHERE k.side <> 'credit') AS debit,
                   min(k.legal_reference) FILTER (WHERE k.side <> 'debit') AS credit
              FROM core.block AS k
             WHERE k.account = ANY (v_accounts) AND k.valid_from <= o_at
               AND (k.valid_to IS NULL OR k.valid_to > o_at)
             GROUP BY k.account) AS b ON b.account = n.account
         WHERE a.kind IS NULL OR (a.kind = 'customer') <> n.customer
            OR a.currency <> n.currency OR a.status = 'closed'
            OR b.debit IS NOT NULL OR b.credit IS NOT NULL
    ), found AS MATERIALIZED (
        SELECT DISTINCT ON (f.posting_id) f.posting_id, f.code, f.detail
          FROM (SELECT l.posting_id, l.ordinal, concat_ws(': ', l.account, l.block) AS detail,
                       CASE WHEN l.kind IS NULL THEN 'account_not_found'
                            WHEN (l.kind = 'customer') <> l.customer
                            THEN 'account_kind_mismatch'
                            WHEN l.kept_in <> l.currency THEN 'currency_mismatch'
                            WHEN l.status = 'closed' THEN 'account_closed'
                            WHEN l.legal_reference IS NULL AND l.block IS NOT NULL
                            THEN 'account_blocked' END AS code
                  FROM (SELECT s.*, r.kind, r.kept_in, r.status,
                               CASE s.side WHEN 'debit' THEN r.debit ELSE r.credit END AS block
                          FROM ni.legs_v1(p_places) AS s
                          JOIN refusing AS r ON r.account = s.account AND r.currency = s.currency
                         WHERE (SELECT count(*) FROM refusing) > 0) AS l
                UNION ALL
                SELECT e.posting_id, 3, e.detail, e.code FROM unnest(p_failed) AS e) AS f
         WHERE f.code IS NOT NULL
         ORDER BY f.posting_id, array_position(
                      '{account_not_found,account_kind_mismatch,currency_mismatch,account_closed,'
                      'account_blocked}', f.code), f.ordinal
    ), broken AS MATERIALIZED (
        SELECT DISTINCT l.link_id FROM ni.broken_links_v1(
            p_client, p_packet, p_places,
            ARRAY(SELECT f.posting_id FROM found AS f)) AS l (link_id)
    )
    SELECT array_agg(ROW(v.posting_id, v.code, v.detail)::ni.verdict_v1),
           pg_current_snapshot()
      INTO o_verdicts, o_snapshot
      FROM (SELECT f.posting_id, f.code, f.detail FROM found AS f
            UNION ALL
            SELECT p.posting_id, 'linked_problem', p.link_id::text
              FROM ni.posting AS p JOIN broken AS l USING (link_id)
             WHERE p.ctid = ANY (p_places) AND (SELECT count(*) FROM broken) > 0
               AND p.posting_id NOT IN (SELECT f.posting_id FROM found AS f)) AS v;
    o_verdicts := coalesce(o_verdicts, '{}');
END
$$;

-- The links of which a posting cannot be booked: one of those found now, or one of the packet that
-- has been a problem since an earlier run. STABLE on purpose: part of the verdict's statement, it
-- sees the verdict's snapshot.
CREATE OR REPLACE FUNCTION ni.broken_links_v1(
    p_client text, p_packet text, p_places tid[], p_found uuid[]
) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET enable_hashjoin = on SET enable_mergejoin = off
AS $$
BEGIN
    IF p_found <> '{}' THEN
        RETURN QUERY
            SELECT p.link_id FROM ni.posting AS p
              JOIN unnest(p_found) AS f (posting_id) USING (posting_id)
             WHERE p.ctid = ANY (p_places) AND p.link_id IS NOT NULL;
    END IF;
    RETURN QUERY
        SELECT o.link_id FROM ni.unbooked AS u
         CROSS JOIN LATERAL (SELECT p.link_id FROM ni.posting AS p
                              WHERE p.bucket = u.bucket AND p.posting_id = u.posting_id
                             OFFSET 0) AS o
         WHERE u.bucket = ANY (ni.buckets_v1()) AND u.client = p_client
           AND u.packet = p_packet AND u.status = 'problem' AND o.link_id IS NOT NULL;
END
$$;

-- Locks the customers' accounts of what was taken and tests each posting. The good ones, and what
-- they bring to their accounts, may be booked in the same transaction.
CREATE OR REPLACE FUNCTION ni.sort_out_v1(
    p_client text, p_packet text, p_places tid[], p_failed ni.verdict_v1[],
    OUT o_good tid[], OUT o_nets ni.account_net_v1[], OUT o_bad tid[],
    OUT o_verdicts ni.verdict_v1[], OUT o_at timestamptz, OUT o_snapshot pg_snapshot
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET enable_hashjoin = on SET enable_mergejoin = off
AS $$
DECLARE
    v_missing text[];
BEGIN
    o_nets := ni.nets_v1(p_places);
    v_missing := ni.lock_core_accounts_v1(
        ARRAY(SELECT DISTINCT n.account FROM unnest(o_nets) AS n WHERE n.customer));
    SELECT j.o_verdicts, j.o_at, j.o_snapshot INTO o_verdicts, o_at, o_snapshot
      FROM ni.judge_v1(p_client, p_packet, p_places, o_nets, p_failed) AS j;
    IF v_missing <> '{}' AND EXISTS (SELECT FROM core.account AS a
                                      WHERE a.account = ANY (v_missing)) THEN
        RAISE EXCEPTION 'a customer''s account has come back since the locks'
            USING ERRCODE = 'NI003';
    END IF;
    o_good := p_places;
    o_bad := '{}';
    IF o_verdicts <> '{}' THEN
        SELECT coalesce(array_agg(p.ctid) FILTER (WHERE v.posting_id IS NULL), '{}'),
               coalesce(array_agg(p.ctid) FILTER (WHERE v.posting_id IS NOT NULL), '{}')
          INTO o_good, o_bad
          FROM ni.posting AS p
          LEFT JOIN unnest(o_verdicts) AS v USING (posting_id)
         WHERE p.ctid = ANY (p_places);
        PERFORM ni.expect_v1('taken', cardinality(o_good) + cardinality(o_bad),
                             cardinality(p_places));
        o_nets := ni.nets_v1(o_good);
    END IF;
END
$$;

-- Books what was taken, in one transaction with whoever called: the problems stay, the rest goes
-- to the core. Not accepted: it waits there and does not count. The answer is the run's row.
CREATE OR REPLACE FUNCTION ni.unload_v1(
    p_client text, p_packet text, p_number integer, p_accepted boolean, p_by text,
    p_places tid[], p_failed ni.verdict_v1[]
) RETURNS ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v         record;
    v_totals  jsonb;
    v_run     ni.unload;
    v_core_id bigint;
BEGIN
    SELECT * INTO v FROM ni.sort_out_v1(p_client, p_packet, p_places, p_failed);
    v_totals := ni.totals_v1(v.o_good);
    IF v.o_good <> '{}' THEN
        INSERT INTO core.packet (client, packet, number, status, booked_at)
        VALUES (p_client, p_packet, p_number,
                CASE WHEN p_accepted THEN 'accepted' ELSE 'waiting' END, v.o_at)
        RETURNING packet_id INTO v_core_id;
        PERFORM ni.write_entries_v1(v_core_id, v.o_good, v.o_at);
        PERFORM ni.mark_postings_v1(
            v.o_good, 'pending', CASE WHEN p_accepted THEN 'booked' ELSE 'awaiting_acceptance' END,
            p_client, p_packet, p_number, v.o_at);
    END IF;
    IF v.o_bad <> '{}' THEN
        PERFORM ni.raise_problems_v1(v.o_bad, v.o_verdicts, 'pending', p_client, p_packet,
                                     p_number, v.o_at);
    END IF;
    INSERT INTO ni.unload
        SELECT 0, p_client, p_packet, p_number,
               CASE WHEN v.o_good = '{}' THEN 'none_booked'
                    WHEN NOT p_accepted THEN 'awaiting_acceptance'
                    WHEN v.o_bad = '{}' THEN 'booked' ELSE 'partly_booked' END,
               p_accepted, p_by, v.o_at, v.o_snapshot, l.business_date,
               cardinality(v.o_good), cardinality(v.o_bad), v_totals, v_core_id
          FROM core.ledger AS l
    RETURNING * INTO STRICT v_run;
    PERFORM ni.finish_unload_v1(v_run);
    IF p_accepted AND v.o_good <> '{}' THEN
        PERFORM ni.apply_customers_v1(v.o_nets);
        PERFORM ni.apply_internal_v1(v.o_nets);
    END IF;
    RETURN v_run;
END
$$;

-- A run of a packet that the caller has entered: takes what is pending now and books it. No row:
-- nothing was pending.
CREATE OR REPLACE FUNCTION ni.unload_packet_v1(
    p_client text, p_packet text, p_number integer, p_accepted boolean, p_by text,
    p_failed ni.verdict_v1[], p_only uuid[], p_limit integer
) RETURNS SETOF ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_places tid[];
BEGIN
    v_places := ni.take_postings_v1(p_client, p_packet, 'pending', NULL, p_only, p_limit);
    IF v_places <> '{}' THEN
        RETURN NEXT ni.unload_v1(p_client, p_packet, p_number, p_accepted, p_by, v_places,
                                 p_failed);
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.enter_unload_v1, ni.take_postings_v1, ni.nets_v1, ni.lock_core_accounts_v1, ni.judge_v1,
    ni.broken_links_v1, ni.sort_out_v1, ni.unload_v1, ni.unload_packet_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.enter_unload_v1, ni.unload_packet_v1 TO ni_engine;
