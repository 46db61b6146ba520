-- What becomes of a run that waits in the core: another client accepts or rejects it. The order of
-- locks is that of unload.sql.

-- Accepts a run that waits: every posting is tested again, what fails becomes a problem and its
-- entries go; the rest counts from this commit on, in the core and no longer in NI. p_failed,
-- p_only: as in ni.unload_packet_v1; with p_only the caller rolls back.
CREATE OR REPLACE FUNCTION ni.accept_unload_v1(
    p_client text, p_packet text, p_number integer, p_by text, p_actor text,
    p_failed ni.verdict_v1[], p_only uuid[]
) RETURNS ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v         record;
    v_totals  jsonb;
    v_waiting integer;
    v_run     ni.unload;
BEGIN
    SELECT u.booked INTO v_waiting FROM ni.unload AS u
     WHERE u.bucket = 0 AND u.client = p_client AND u.packet = p_packet AND u.number = p_number;
    SELECT * INTO v FROM ni.sort_out_v1(
        p_client, p_packet,
        ni.take_postings_v1(p_client, p_packet, 'awaiting_acceptance', p_number, p_only, NULL),
        p_failed);
    IF p_only IS NULL THEN
        PERFORM ni.expect_v1('waiting', cardinality(v.o_good) + cardinality(v.o_bad), v_waiting);
    END IF;
    v_totals := ni.totals_v1(v.o_good);
    UPDATE ni.unload AS u
       SET status = CASE WHEN v.o_good = '{}' THEN 'none_booked'
                         WHEN v.o_bad = '{}' AND u.problems = 0 THEN 'booked'
                         ELSE 'partly_booked' END,
           accepted = true, decided_by = p_by, decided_at = v.o_at, actor = p_actor,
           decided_snapshot = v.o_snapshot, totals = v_totals,
           booked = cardinality(v.o_good), problems = u.problems + cardinality(v.o_bad)
     WHERE u.bucket = 0 AND u.client = p_client AND u.packet = p_packet
       AND u.number = p_number AND u.status = 'awaiting_acceptance'
    RETURNING * INTO STRICT v_run;
    PERFORM ni.tell_run_v1(v_run, 'ni.packet.accepted');
    UPDATE core.packet AS c SET status = 'accepted', booked_at = v.o_at
     WHERE c.packet_id = v_run.core_packet_id;
    PERFORM ni.accept_entries_v1(v_run.core_packet_id, v.o_good, v.o_bad, v.o_at);
    IF v.o_bad <> '{}' THEN
        PERFORM ni.raise_problems_v1(v.o_bad, v.o_verdicts, 'awaiting_acceptance', p_client,
                                     p_packet, p_number, v.o_at);
    END IF;
    IF v.o_good <> '{}' THEN
        PERFORM ni.mark_postings_v1(v.o_good, 'awaiting_acceptance', 'booked', p_client,
                                    p_packet, p_number, v.o_at);
        PERFORM ni.apply_customers_v1(v.o_nets);
        PERFORM ni.apply_internal_v1(v.o_nets);
    END IF;
    RETURN v_run;
END
$$;

-- Takes the entries of problems out of a packet of the core; the others count from now on, so they
-- are booked now.
CREATE OR REPLACE FUNCTION ni.accept_entries_v1(
    p_core_packet bigint, p_good tid[], p_bad tid[], p_at timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET enable_hashjoin = on SET enable_mergejoin = off
AS $$
DECLARE
    v_date date := (SELECT l.business_date FROM core.ledger AS l);
    v_rows bigint;
BEGIN
    IF p_bad <> '{}' THEN
        DELETE FROM core.entry AS e
         USING ni.posting AS p
         WHERE p.ctid = ANY (p_bad) AND e.packet_id = p_core_packet
           AND e.posting_id = p.posting_id;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        PERFORM ni.expect_v1('entry', v_rows, 2 * cardinality(p_bad));
    END IF;
    UPDATE core.entry AS e SET booked_at = p_at, business_date = v_date
      FROM ni.posting AS p
     WHERE p.ctid = ANY (p_good) AND e.packet_id = p_core_packet
       AND e.posting_id = p.posting_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('entry', v_rows, 2 * cardinality(p_good));
END
$$;

-- Rejects a run that waits: its entries leave the core, its postings are pending again.
CREATE OR REPLACE FUNCTION ni.reject_unload_v1(
    p_client text, p_packet text, p_number integer, p_by text, p_actor text, p_reason text
) RETURNS ni.unload
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_places tid[];
    v_at     timestamptz := ni.clock();
    v_run    ni.unload;
    v_booked integer;
    v_rows   bigint;
BEGIN
    SELECT u.booked INTO v_booked FROM ni.unload AS u
     WHERE u.bucket = 0 AND u.client = p_client AND u.packet = p_packet AND u.number = p_number;
    v_places := ni.take_postings_v1(p_client, p_packet, 'awaiting_acceptance', p_number, NULL,
                                    NULL);
    PERFORM ni.expect_v1('waiting', cardinality(v_places), v_booked);
    UPDATE ni.unload AS u
       SET status = 'rejected', decided_by = p_by, decided_at = v_at, actor = p_actor,
           reason = p_reason, booked = 0, totals = '{}'
     WHERE u.bucket = 0 AND u.client = p_client AND u.packet = p_packet
       AND u.number = p_number AND u.status = 'awaiting_acceptance'
    RETURNING * INTO STRICT v_run;
    PERFORM ni.tell_run_v1(v_run, 'ni.packet.rejected');
    DELETE FROM core.entry AS e WHERE e.packet_id = v_run.core_packet_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM ni.expect_v1('entry', v_rows, 2 * cardinality(v_places));
    UPDATE core.packet AS c SET status = 'rejected' WHERE c.packet_id = v_run.core_packet_id;
    PERFORM ni.mark_postings_v1(v_places, 'awaiting_acceptance', 'pending', p_client, p_packet,
                                p_number, v_at);
    RETURN v_run;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.accept_unload_v1, ni.accept_entries_v1, ni.reject_unload_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.accept_unload_v1, ni.reject_unload_v1 TO ni_engine;
