-- What a run writes: the core's entries and balances, `applied`, the postings' statuses, problems
-- and events. unload.sql and accept.sql say in which order.

-- Writes the entries of postings into a packet of the core: a debit and a credit leg each.
CREATE OR REPLACE FUNCTION ni.write_entries_v1(
    p_core_packet bigint, p_places tid[], p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_date date := (SELECT l.business_date FROM core.ledger AS l);
    v_rows bigint;
BEGIN
    INSERT INTO core.entry (packet_id, account, amount, currency, value_date, business_date,
                            booked_at, narrative, reference, legal_reference, posting_id,
                            link_id)
        SELECT p_core_packet, l.account, l.amount, l.currency, l.value_date, v_date, p_at,
               l.narrative, l.reference, l.legal_reference, l.posting_id, l.link_id
          FROM ni.legs_v1(p_places) AS l
         ORDER BY l.account, l.posting_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('entry', v_rows, 2 * cardinality(p_places));
END
$$;

-- Lets postings count in the core: the customers' balances and NI's `applied` change together, so
-- that no available balance moves. Internal accounts are not touched here.
CREATE OR REPLACE FUNCTION ni.apply_customers_v1(p_nets ni.account_net_v1[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET enable_hashjoin = on SET enable_mergejoin = off
AS $$
DECLARE
    v_buckets   smallint := (SELECT i.buckets FROM ni.installation AS i);
    v_customers text[] := ARRAY(SELECT n.account FROM unnest(p_nets) AS n WHERE n.customer);
    v_rows      bigint;
BEGIN
    UPDATE core.account AS a SET balance = a.balance + n.amount
      FROM unnest(p_nets) AS n
     WHERE n.customer AND a.account = n.account AND a.account = ANY (v_customers);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('balance', v_rows, cardinality(v_customers));
    INSERT INTO ni.applied AS a (bucket, account, applied)
        SELECT crc32(convert_to(n.account, 'UTF8')) % v_buckets, n.account, n.amount
          FROM unnest(p_nets) AS n
         WHERE n.customer
         ORDER BY 1, n.account COLLATE "C"
    ON CONFLICT (bucket, account) DO UPDATE SET applied = a.applied + excluded.applied;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('applied', v_rows, cardinality(v_customers));
END
$$;

-- The last step: the accounts that are in every packet, locked by account as late as can be.
-- Tested again under the lock: whoever closed, blocked or deleted one since the verdict undoes the
-- run, and the caller does it again (NI003).
CREATE OR REPLACE FUNCTION ni.apply_internal_v1(p_nets ni.account_net_v1[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_internals ni.account_net_v1[] := ARRAY(SELECT n FROM unnest(p_nets) AS n
                                              WHERE NOT n.customer);
    v_missing   text[];
    v_at        timestamptz;
    v_rows      bigint;
BEGIN
    IF v_internals = '{}' THEN
        RETURN;
    END IF;
    v_missing := ni.lock_core_accounts_v1(
        ARRAY(SELECT DISTINCT n.account FROM unnest(v_internals) AS n));
    v_at := ni.clock();
    IF v_missing <> '{}' OR EXISTS (
        SELECT FROM unnest(v_internals) AS n
          JOIN core.account AS a ON a.account = n.account
         WHERE a.status = 'closed' OR a.kind = 'customer'
            OR a.currency <> n.currency
            OR EXISTS (SELECT FROM core.block AS b
                        WHERE b.account = n.account AND b.valid_from <= v_at
                          AND (b.valid_to IS NULL OR b.valid_to > v_at)
                          AND (b.side <> 'credit' AND n.debited
                               OR b.side <> 'debit' AND n.credited))) THEN
        RAISE EXCEPTION 'an internal account has changed since the verdict'
            USING ERRCODE = 'NI003';
    END IF;
    UPDATE core.account AS a SET balance = a.balance + n.amount
      FROM unnest(v_internals) AS n
     WHERE a.account = n.account;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('balance', v_rows, cardinality(v_internals));
END
$$;

-- Gives postings their new status, only from the one that they were taken in, and tells it. What
-- is not booked is put back among the unbooked. Afterwards the rows are in other places.
CREATE OR REPLACE FUNCTION ni.mark_postings_v1(
    p_places tid[], p_from text, p_to text, p_client text, p_packet text, p_number integer,
    p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
    v_epoch   integer := (SELECT m.epoch FROM ni.mode AS m);
    v_type    text := 'ni.posting.' || p_to;
    v_stem    bytea := substring(uuid_send(uuidv7()) FROM 1 FOR 11);
    v_lap     CONSTANT smallint := 9;  -- of runs alone: a file that grows is locked meanwhile
    v_rows    bigint;
BEGIN
    IF v_buckets > 1 THEN
        -- The second rows, in the buckets of other customers, follow.
        UPDATE ni.posting AS p
           SET status = p_to, unload_number = p_number, packet = p_packet, changed_at = p_at
          FROM ni.legs_v1(p_places) AS l
         WHERE l.customer AND p.bucket = crc32(convert_to(l.account, 'UTF8')) % v_buckets
           AND p.posting_id = l.posting_id AND NOT p.home;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        PERFORM ni.expect_v1('second', v_rows, ni.second_rows_v1(p_places));
    END IF;
    WITH changed AS (
        UPDATE ni.posting AS p
           SET status = p_to, unload_number = p_number, changed_at = p_at
         WHERE p.ctid = ANY (p_places) AND p.status = p_from
           -- Joined to '', so that no index is walked and filtered by place.
           AND p.home AND p.client || '' = p_client AND p.packet || '' = p_packet
        RETURNING p.bucket, p.posting_id, p.straight_through, p.debit_account, p.credit_account,
                  p.debit_customer, p.credit_customer, p.amount, p.currency, p.reference,
                  p.narrative, p.link_id
    ), kept AS (
        INSERT INTO ni.unbooked
            SELECT c.bucket, c.posting_id, p_client, p_packet, p_to, c.straight_through,
                   c.amount, c.currency,
                   CASE WHEN NOT c.debit_customer THEN c.debit_account END,
                   CASE WHEN NOT c.credit_customer THEN c.credit_account END, c.link_id
              FROM changed AS c
             WHERE p_to <> 'booked'
    ), told AS (
        INSERT INTO ni.outbox (bucket, event_id, type, epoch, client, movement_id, currency,
                               amount, reference, narrative, packet, packet_number,
                               debit_account, credit_account, lap, detail)
            SELECT c.bucket, ni.event_id_v1(v_stem, row_number() OVER (), c.bucket), v_type,
                   v_epoch, p_client, c.posting_id, c.currency, c.amount, c.reference,
                   c.narrative, p_packet, p_number, c.debit_account, c.credit_account, v_lap,
                   CASE p_to WHEN 'problem' THEN
                       (SELECT r.code FROM ni.problem AS r
                         WHERE r.bucket = c.bucket AND r.posting_id = c.posting_id
                           AND r.raised_at = p_at) END
              FROM changed AS c
             WHERE p_to IN ('booked', 'problem')
    )
    SELECT count(*) INTO v_rows FROM changed;
    PERFORM ni.expect_v1('posting', v_rows, cardinality(p_places));
END
$$;

-- How many rows postings have in the buckets of other customers.
CREATE OR REPLACE FUNCTION ni.second_rows_v1(p_places tid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
BEGIN
    RETURN (
        SELECT count(*)
          FROM ni.posting AS p
         CROSS JOIN LATERAL (
            SELECT DISTINCT crc32(convert_to(s.account, 'UTF8')) % v_buckets AS bucket
              FROM (VALUES (p.debit_account, p.debit_customer),
                           (p.credit_account, p.credit_customer)) AS s (account, customer)
             WHERE s.customer) AS b
         WHERE p.ctid = ANY (p_places) AND b.bucket <> p.bucket);
END
$$;

-- Leaves postings as problems, each with its reason.
CREATE OR REPLACE FUNCTION ni.raise_problems_v1(
    p_places tid[], p_verdicts ni.verdict_v1[], p_from text, p_client text, p_packet text,
    p_number integer, p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET enable_hashjoin = on SET enable_mergejoin = off
AS $$
DECLARE
    v_rows bigint;
BEGIN
    INSERT INTO ni.problem (bucket, posting_id, raised_at, client, packet, number, code, detail)
        SELECT p.bucket, p.posting_id, p_at, p_client, p_packet, p_number, v.code, v.detail
          FROM ni.posting AS p
          JOIN unnest(p_verdicts) AS v USING (posting_id)
         WHERE p.ctid = ANY (p_places);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('problem', v_rows, cardinality(p_places));
    PERFORM ni.mark_postings_v1(p_places, p_from, 'problem', p_client, p_packet, p_number, p_at);
END
$$;

-- The sum of postings in minor units, by currency.
CREATE OR REPLACE FUNCTION ni.totals_v1(p_places tid[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on SET enable_sort = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN coalesce(
        (SELECT jsonb_object_agg(c.currency, c.total)
           FROM (SELECT p.currency, sum(p.amount) AS total
                   FROM ni.posting AS p WHERE p.ctid = ANY (p_places)
                  GROUP BY p.currency) AS c), '{}');
END
$$;

-- The run's number on the packet's row, and the event of its unload.
CREATE OR REPLACE FUNCTION ni.finish_unload_v1(p_run ni.unload) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ni.packet AS p SET last_number = greatest(p.last_number, p_run.number)
     WHERE p.bucket = 0 AND p.client = p_run.client AND p.packet = p_run.packet;
    PERFORM ni.tell_run_v1(p_run, 'ni.packet.unloaded');
END
$$;

-- An event of a run, with the status that it has now.
CREATE OR REPLACE FUNCTION ni.tell_run_v1(p_run ni.unload, p_type text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO ni.outbox (bucket, event_id, type, epoch, client, packet, packet_number, detail,
                           lap)
        SELECT 0, ni.event_id_v1(substring(uuid_send(uuidv7()) FROM 1 FOR 11), 0, 0::smallint),
               p_type, m.epoch, p_run.client, p_run.packet, p_run.number,
               p_run.status, 9
          FROM ni.mode AS m;
END
$$;

-- An id for an event that no decision made: the first 11 bytes of a UUIDv7, a number within the
-- run in three bytes, and the bucket in the last two.
CREATE OR REPLACE FUNCTION ni.event_id_v1(p_stem bytea, p_number bigint, p_bucket smallint)
RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$
    SELECT encode(p_stem || substring(int4send(p_number::integer) FROM 2) || int2send(p_bucket),
                  'hex')::uuid
$$;

-- The numbers of all buckets, for what is looked for in every one of them.
CREATE OR REPLACE FUNCTION ni.buckets_v1() RETURNS smallint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY(SELECT g.bucket::smallint
                   FROM ni.installation AS i
                  CROSS JOIN LATERAL generate_series(0, i.buckets - 1) AS g (bucket));
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.write_entries_v1, ni.apply_customers_v1, ni.apply_internal_v1, ni.mark_postings_v1,
    ni.raise_problems_v1, ni.finish_unload_v1, ni.tell_run_v1 FROM public;
