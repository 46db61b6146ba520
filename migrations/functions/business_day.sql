-- The switch: close (day to night) and open (night to day).
--
-- Locks of the switch, in this order: the row of ni.mode (of two switchers one waits for the
-- other), the unload gate (close only; runs are waited for, and only runs stand behind it), and the
-- gate, shortly and again and again. A close names no relation of the core; an open has every
-- relation behind the day's aliases, without waiting, before it asks for the gate.

-- Where the bank stands, without the gate: for whoever decides about a switch, not about money.
-- o_made: the mode to which a switch was made under this key; else null.
CREATE OR REPLACE FUNCTION ni.day_state_v1(
    p_client text, p_key text, OUT o_mode text, OUT o_epoch integer, OUT o_since timestamptz,
    OUT o_now timestamptz, OUT o_made text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT m.mode, m.epoch, m.since, ni.clock(),
           (SELECT s.mode FROM ni.day_switch AS s WHERE s.client = p_client AND s.key = p_key)
      INTO o_mode, o_epoch, o_since, o_now, o_made
      FROM ni.mode AS m WHERE m.one;
END
$$;

-- Becomes the one switcher until the transaction ends; then where the bank stands. No row: another
-- switcher has not ended within p_wait_ms.
CREATE OR REPLACE FUNCTION ni.enter_switch_v1(p_client text, p_key text, p_wait_ms integer)
RETURNS TABLE (mode text, made text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('lock_timeout', p_wait_ms::text, true);
    BEGIN
        PERFORM FROM ni.mode AS m WHERE m.one FOR UPDATE;
    EXCEPTION WHEN lock_not_available THEN
        RETURN;
    END;
    RETURN QUERY SELECT s.o_mode, s.o_made FROM ni.day_state_v1(p_client, p_key) AS s;
END
$$;

-- Waits until no run is under way and lets none begin; false: not within p_wait_ms.
CREATE OR REPLACE FUNCTION ni.drain_unloads_v1(p_wait_ms integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('lock_timeout', p_wait_ms::text, true);
    LOCK TABLE ni.unload_gate IN EXCLUSIVE MODE;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;

-- Packets that owe the core something: pending, waiting for acceptance, or problems; a null packet
-- has straight-through postings that no packet has yet. It walks from name to name, whatever the
-- number of postings: at most p_names in each bucket, by client and packet.
CREATE OR REPLACE FUNCTION ni.unfinished_packets_v1(p_names integer, p_limit integer)
RETURNS TABLE (client text, packet text, status text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH RECURSIVE walk AS (
            SELECT b.bucket, f.client, f.packet, 1 AS place
              FROM unnest(ni.buckets_v1()) AS b (bucket)
             CROSS JOIN LATERAL (
                SELECT u.client, u.packet FROM ni.unbooked AS u
                 WHERE u.bucket = b.bucket
                 ORDER BY u.client, u.packet LIMIT 1) AS f
            UNION ALL
            SELECT w.bucket, f.client, f.packet, w.place + 1
              FROM walk AS w
             CROSS JOIN LATERAL (
                SELECT u.client, u.packet FROM ni.unbooked AS u
                 WHERE u.bucket = w.bucket AND (u.client, u.packet) > (w.client, w.packet)
                 ORDER BY u.client, u.packet LIMIT 1) AS f
             WHERE w.place < p_names
        )
        SELECT w.client, nullif(w.packet, ''),
               (array_agg(s.status ORDER BY s.rank))[1]
          FROM walk AS w
         CROSS JOIN LATERAL (
            SELECT v.shown AS status, v.rank
              FROM (VALUES ('pending', 'open', 1),
                           ('awaiting_acceptance', 'awaiting_acceptance', 2),
                           ('problem', 'problems', 3)) AS v (status, shown, rank)
             CROSS JOIN LATERAL (
                SELECT FROM ni.unbooked AS u
                 WHERE u.bucket = w.bucket AND u.client = w.client
                   AND u.packet = w.packet AND u.status = v.status
                 LIMIT 1) AS one
             ORDER BY v.rank LIMIT 1) AS s
         GROUP BY w.client, w.packet
         ORDER BY w.client, w.packet
         LIMIT p_limit;
END
$$;

-- How many runs are under way, and their packets as far as they are unfinished ones: a run notes
-- its packet by a lock that it shares with everybody.
CREATE OR REPLACE FUNCTION ni.unloading_v1(
    p_names integer, p_limit integer, OUT o_runs bigint, OUT o_packets jsonb
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_database oid := (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database());
    v_noted    bigint[];
BEGIN
    SELECT count(*) INTO o_runs
      FROM pg_locks AS l
     WHERE l.locktype = 'relation' AND l.database = v_database
       AND l.relation = 'ni.unload_gate'::regclass AND l.mode = 'RowShareLock' AND l.granted;
    IF o_runs = 0 OR p_limit = 0 THEN
        o_packets := '[]';
        RETURN;
    END IF;
    SELECT array_agg(l.objid::bigint) INTO v_noted
      FROM pg_locks AS l
     WHERE l.locktype = 'advisory' AND l.database = v_database AND l.classid = 28265
       AND l.objsubid = 2;
    SELECT coalesce(jsonb_agg(jsonb_build_object('client', u.client, 'packet', u.packet)), '[]')
      INTO o_packets
      FROM ni.unfinished_packets_v1(p_names, p_limit) AS u
     WHERE ni.packet_note_v1(u.client, u.packet)::bigint & 4294967295 = ANY (v_noted);
END
$$;

-- The number by which a run notes its packet.
CREATE OR REPLACE FUNCTION ni.packet_note_v1(p_client text, p_packet text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    RETURN hashtext(p_client || '/' || p_packet);
END
$$;

-- The relations behind the day's aliases, with every partition; from catalogues alone.
CREATE OR REPLACE FUNCTION ni.day_relations_v1() RETURNS SETOF regclass
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH RECURSIVE relation (oid) AS (
            SELECT c.oid FROM pg_class AS c
             WHERE c.relnamespace = 'day_alias'::regnamespace
            UNION
            SELECT n.oid
              FROM relation AS r
             CROSS JOIN LATERAL (
                SELECT d.refobjid FROM pg_rewrite AS w
                  JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                                     AND d.refclassid = 'pg_class'::regclass
                 WHERE w.ev_class = r.oid AND d.refobjid <> r.oid
                UNION ALL
                SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = r.oid) AS n (oid)
        )
        SELECT c.oid::regclass
          FROM relation AS r JOIN pg_class AS c ON c.oid = r.oid
         WHERE c.relnamespace <> 'day_alias'::regnamespace AND c.relkind IN ('r', 'p', 'v')
         ORDER BY c.oid;
END
$$;

-- Has every relation behind the day's aliases until the transaction ends, without waiting. Returns
-- the first that the core holds, or null.
CREATE OR REPLACE FUNCTION ni.lock_core_v1() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_relation regclass;
BEGIN
    FOR v_relation IN SELECT r FROM ni.day_relations_v1() AS r LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE NOWAIT', v_relation);
        EXCEPTION WHEN lock_not_available THEN
            RETURN v_relation::text;
        END;
    END LOOP;
    RETURN NULL;
END
$$;

-- The first relation behind the day's aliases that the core holds by day, or null; nothing stays
-- locked. Of two closers the slower one may ask by night: so the gate and the mode come first.
CREATE OR REPLACE FUNCTION ni.core_held_v1() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_held text;
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode = 'day' FROM ni.mode AS m WHERE m.one) THEN
        v_held := ni.lock_core_v1();
    END IF;
    RAISE EXCEPTION 'the locks go with this block' USING ERRCODE = 'NI005';
EXCEPTION WHEN SQLSTATE 'NI005' THEN
    RETURN v_held;
END
$$;

-- One try to change the mode: 'busy', the gate was not had within p_gate_ms; 'not_exact', something
-- is noted, or the catalogue is another one than when p_mark was taken with the whole question, for
-- which there is no time under the gate. Neither holds or changes anything. 'flipped': everything
-- is written and the gate is held until the transaction ends, for which the session has
-- p_commit_ms.
CREATE OR REPLACE FUNCTION ni.flip_v1(
    p_to text, p_gate_ms integer, p_commit_ms integer, p_client text, p_key text,
    p_tries integer, p_drain_ms integer, p_unfinished jsonb, p_mark text,
    OUT o_result text, OUT o_epoch integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_at     timestamptz;
    v_ledger record;
BEGIN
    PERFORM set_config('lock_timeout', p_gate_ms::text, true);
    BEGIN
        LOCK TABLE ni.gate IN EXCLUSIVE MODE;
        IF p_to = 'night' AND (ni.noted_buckets_v1() <> '{}'
                               OR ni.night_mark_v1() IS DISTINCT FROM p_mark) THEN
            RAISE EXCEPTION 'the night copy is not exact' USING ERRCODE = 'NI004';
        END IF;
        UPDATE ni.mode AS m
           SET mode = p_to, epoch = m.epoch + 1, since = ni.clock()
         WHERE m.one AND m.mode <> p_to
        RETURNING m.epoch, m.since INTO STRICT o_epoch, v_at;
        IF p_to = 'night' THEN
            SELECT l.business_date, l.next_business_date INTO v_ledger FROM night_alias.ledger AS l;
        ELSE
            SELECT l.business_date, l.next_business_date INTO v_ledger FROM day_alias.ledger AS l;
        END IF;
        INSERT INTO ni.day_switch
        VALUES (0, o_epoch, p_to, v_at, v_ledger.business_date, v_ledger.next_business_date,
                p_client, p_key, p_tries, p_drain_ms, NULL, p_unfinished);
        INSERT INTO ni.outbox (bucket, event_id, type, epoch, client, detail)
        VALUES (0, ni.event_id_v1(substring(uuid_send(uuidv7()) FROM 1 FOR 11), 0, 0::smallint),
                CASE p_to WHEN 'night' THEN 'ni.day.closed' ELSE 'ni.day.opened' END, o_epoch,
                p_client, v_ledger.business_date::text);
    EXCEPTION
        WHEN lock_not_available THEN
            o_result := 'busy';
            RETURN;
        WHEN SQLSTATE 'NI004' THEN
            o_result := 'not_exact';
            RETURN;
    END;
    PERFORM set_config('idle_in_transaction_session_timeout', p_commit_ms::text, true);
    o_result := 'flipped';
END
$$;

-- The business dates of the core itself by day, for the time in which the copy has not taken them
-- over yet. None: the core has no dates, or it holds its ledger.
CREATE OR REPLACE FUNCTION ni.core_dates_v1(
    p_mode text, OUT o_mode text, OUT o_business_date date, OUT o_next_business_date date
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode INTO o_mode FROM ni.mode AS m WHERE m.one;
    IF o_mode <> p_mode THEN
        RETURN;
    END IF;
    PERFORM ni.expect_session_v1(p_mode);
    BEGIN
        LOCK TABLE ledger IN ACCESS SHARE MODE NOWAIT;
        SELECT l.business_date, l.next_business_date
          INTO o_business_date, o_next_business_date
          FROM ledger AS l;
    EXCEPTION WHEN lock_not_available THEN
        NULL;
    END;
END
$$;

-- The day as every door shows it; no relation of the core is named, and the gate is not asked for.
-- Dates by day are those of the copy, none while it is not exact. By night what stayed unfinished
-- at the close, by day what would; with p_client that client's packets alone, by night as far as
-- they are among those that were written down. Accounts are those that the last night left below
-- their limit.
CREATE OR REPLACE FUNCTION ni.day_facts_v1(
    p_client text, p_accounts boolean, p_names integer, p_limit integer,
    OUT o_mode text, OUT o_epoch integer, OUT o_since timestamptz, OUT o_business_date date,
    OUT o_next_business_date date, OUT o_exact boolean, OUT o_changed_keys bigint,
    OUT o_copied_at timestamptz, OUT o_runs bigint, OUT o_unfinished jsonb, OUT o_below jsonb,
    OUT o_switch_ms integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT m.mode, m.epoch, m.since INTO o_mode, o_epoch, o_since FROM ni.mode AS m WHERE m.one;
    SELECT c.exact, c.changed_keys, c.copied_at INTO o_exact, o_changed_keys, o_copied_at
      FROM ni.night_copy_status_v1() AS c;
    SELECT u.o_runs INTO o_runs FROM ni.unloading_v1(0, 0) AS u;
    SELECT s.unfinished, s.switch_ms INTO o_unfinished, o_switch_ms
      FROM ni.day_switch AS s WHERE s.bucket = 0 AND s.epoch = o_epoch;
    IF o_mode = 'day' THEN
        SELECT l.business_date, l.next_business_date INTO o_business_date, o_next_business_date
          FROM night.ledger AS l WHERE o_exact;
        SELECT jsonb_agg(to_jsonb(u)) INTO o_unfinished
          FROM ni.unfinished_packets_v1(
                   p_names, CASE WHEN p_client IS NULL THEN p_limit ELSE p_names END) AS u;
    ELSE
        SELECT l.business_date, l.next_business_date INTO o_business_date, o_next_business_date
          FROM night_alias.ledger AS l;
    END IF;
    SELECT coalesce(jsonb_agg(u.packet ORDER BY u.place), '[]') INTO o_unfinished
      FROM jsonb_array_elements(o_unfinished) WITH ORDINALITY AS u (packet, place)
     WHERE (p_client IS NULL OR u.packet ->> 'client' = p_client) AND u.place <= p_names;
    o_unfinished := jsonb_path_query_array(
        o_unfinished, '$[0 to $last]', jsonb_build_object('last', p_limit - 1));
    SELECT coalesce(jsonb_agg(to_jsonb(b)), '[]') INTO o_below
      FROM (SELECT l.account, l.currency, l.available, l.credit_limit
              FROM unnest(ni.buckets_v1()) AS k (bucket)
             CROSS JOIN LATERAL (
                SELECT * FROM ni.below_limit AS t
                 WHERE t.bucket = k.bucket
                   AND t.epoch = o_epoch - CASE o_mode WHEN 'day' THEN 0 ELSE 1 END
                 ORDER BY t.account LIMIT p_limit) AS l
             WHERE p_accounts
             ORDER BY l.account
             LIMIT p_limit) AS b;
END
$$;

-- Writes down how long a switch lasted, after its commit.
CREATE OR REPLACE FUNCTION ni.note_switch_v1(p_epoch integer, p_switch_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ni.day_switch AS s SET switch_ms = p_switch_ms
     WHERE s.bucket = 0 AND s.epoch = p_epoch AND s.switch_ms IS NULL;
END
$$;

-- Notes which of these accounts, in one bucket, stand below their limit now: base, pending and
-- holds as every decision counts them, in one snapshot. Called by day, in the transaction that
-- forgets that the core has changed them by night: so none is lost, however often that work is
-- interrupted. Nothing is locked; an account is noted once a day.
CREATE OR REPLACE FUNCTION ni.note_below_limit_v1(p_bucket smallint, p_accounts text[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_noted bigint;
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    INSERT INTO ni.below_limit
        SELECT p_bucket, m.epoch, b.account, b.currency, f.available, b.credit_limit, c.instant
          FROM ni.mode AS m
         CROSS JOIN (SELECT ni.clock() AS instant OFFSET 0) AS c
         CROSS JOIN unnest(p_accounts) AS x (account)
         CROSS JOIN LATERAL (
            SELECT * FROM day_alias.account AS t WHERE t.account = x.account LIMIT 1) AS b
          LEFT JOIN LATERAL (
            SELECT * FROM ni.state AS t
             WHERE t.bucket = p_bucket AND t.account = x.account
             ORDER BY t.era DESC LIMIT 1) AS s ON true
         CROSS JOIN LATERAL (
            SELECT coalesce(sum(h.amount - h.captured - h.released), 0)::bigint AS expired
              FROM ni.hold AS h
             WHERE s.next_expiry <= c.instant
               AND h.bucket = p_bucket AND h.account = x.account
               AND h.status = 'active' AND h.expires_at <= c.instant) AS e
         CROSS JOIN LATERAL (
            SELECT b.balance + b.credit_limit + coalesce(s.created, 0)
                   - coalesce((SELECT p.applied FROM ni.applied AS p
                                WHERE p.bucket = p_bucket AND p.account = x.account), 0)
                   - (coalesce(s.held, 0) - e.expired) AS available) AS f
         WHERE m.one AND m.mode = 'day' AND b.kind = 'customer' AND f.available < 0
         ORDER BY b.account
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_noted = ROW_COUNT;
    RETURN v_noted;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.day_state_v1, ni.enter_switch_v1, ni.drain_unloads_v1, ni.unfinished_packets_v1,
    ni.unloading_v1, ni.day_relations_v1, ni.lock_core_v1, ni.core_held_v1, ni.flip_v1,
    ni.day_facts_v1, ni.note_switch_v1, ni.note_below_limit_v1 FROM public;
GRANT EXECUTE ON FUNCTION
    ni.day_state_v1, ni.enter_switch_v1, ni.drain_unloads_v1, ni.unfinished_packets_v1,
    ni.unloading_v1, ni.day_relations_v1, ni.lock_core_v1, ni.core_held_v1, ni.flip_v1,
    ni.day_facts_v1, ni.note_switch_v1 TO ni_engine;
