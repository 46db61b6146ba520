-- What the relay does with the outbox, in small steps. The engine's role may add events and read
-- them; it takes them out through these functions alone.

-- The lap that is written now. Whoever writes many events asks once, and not once a row.
CREATE OR REPLACE FUNCTION ni.lap_v1() RETURNS smallint
LANGUAGE sql VOLATILE
AS $$
SELECT (date_part('epoch', clock_timestamp())::bigint >> 3 & 7)::smallint
$$;

-- Deletes events; the ids of those that were there. Rows move from a lap to lap 8, no other way, so
-- what is not found where it was read is there or gone.
CREATE OR REPLACE FUNCTION ni.take_events_v1(p_bucket smallint, p_lap smallint, p_ids uuid[])
RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_found uuid[];
    v_moved uuid[];
BEGIN
    WITH gone AS (
        DELETE FROM ni.outbox AS o
         WHERE o.bucket = p_bucket AND o.event_id = ANY (p_ids) AND o.lap = p_lap
        RETURNING o.event_id
    )
    SELECT coalesce(array_agg(g.event_id), '{}') INTO v_found FROM gone AS g;
    IF cardinality(v_found) < cardinality(p_ids) AND p_lap <> 8 THEN
        WITH gone AS (
            DELETE FROM ni.outbox AS o
             WHERE o.bucket = p_bucket AND o.event_id = ANY (p_ids) AND o.lap = 8
            RETURNING o.event_id
        )
        SELECT coalesce(array_agg(g.event_id), '{}') INTO v_moved FROM gone AS g;
        v_found := v_found || v_moved;
    END IF;
    RETURN v_found;
END
$$;

-- Deletes events that are delivered; how many there were.
CREATE OR REPLACE FUNCTION ni.remove_events_v1(p_bucket smallint, p_lap smallint, p_ids uuid[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN cardinality(ni.take_events_v1(p_bucket, p_lap, p_ids));
END
$$;

-- Empties a past lap's file that has grown past p_bytes and in which nothing waits; what waits in
-- small numbers is moved out of the way first. Whether it was emptied.
--
-- Never waits: a lap that somebody has locked, who has written there and not committed yet, say,
-- is left for the next time. The lock is exclusive, so after it every event of the lap is
-- committed and seen, or was undone. The lap that is written now and the next one are left alone,
-- so no decision meets the lock. The first look is without it: dead rows take time to walk over,
-- and where too many wait, nobody is kept off for that.
CREATE OR REPLACE FUNCTION ni.turn_outbox_v1(p_lap smallint, p_bytes bigint, p_moved_max integer)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now  integer := ni.lap_v1();
    v_file text := format('ni.outbox_%s', p_lap);
    v_left bigint;
BEGIN
    IF p_lap NOT IN (0, 1, 2, 3, 4, 5, 6, 7, 9) OR p_lap IN (v_now, (v_now + 1) & 7)
       OR pg_relation_size(v_file::regclass) <= p_bytes THEN
        RETURN false;
    END IF;
    FOR v_look IN 1..2 LOOP
        IF v_look = 2 THEN
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', v_file);
        END IF;
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s LIMIT $1) AS t', v_file)
           INTO v_left USING p_moved_max + 1;
        IF v_left > p_moved_max THEN
            RETURN false;
        END IF;
    END LOOP;
    IF v_left > 0 THEN
        PERFORM ni.move_events_v1(p_lap);
    END IF;
    EXECUTE format('TRUNCATE TABLE ONLY %s', v_file);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;

-- Copies the events of a lap into lap 8; the caller has locked the lap and empties it.
CREATE OR REPLACE FUNCTION ni.move_events_v1(p_lap smallint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO ni.outbox (bucket, event_id, type, account, sequence, epoch, client, movement_id,
                           currency, amount, direction, available_after, reference, narrative,
                           packet, packet_number, detail, debit_account, credit_account, hold_id,
                           hold_remaining, lap)
        SELECT o.bucket, o.event_id, o.type, o.account, o.sequence, o.epoch, o.client,
               o.movement_id, o.currency, o.amount, o.direction, o.available_after, o.reference,
               o.narrative, o.packet, o.packet_number, o.detail, o.debit_account,
               o.credit_account, o.hold_id, o.hold_remaining, 8
          FROM ni.outbox AS o WHERE o.lap = p_lap;
END
$$;

-- The events of refused debits in one bucket. They change nothing, so they have no sequence.
CREATE OR REPLACE FUNCTION ni.tell_refusals_v1(p_bucket smallint, p_refusals ni.refusal_v1[])
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_lap smallint := ni.lap_v1();
BEGIN
    INSERT INTO ni.outbox (bucket, event_id, type, account, epoch, client, movement_id, currency,
                           amount, direction, available_after, reference, narrative, detail, lap)
        SELECT p_bucket, r.event_id, 'ni.debit.refused', r.account, r.epoch, r.client,
               r.movement_id, r.currency, r.amount, -1, r.available_after, r.reference,
               r.narrative, r.reason, v_lap
          FROM unnest(p_refusals) AS r;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.move_events_v1, ni.take_events_v1, ni.remove_events_v1, ni.turn_outbox_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.remove_events_v1, ni.turn_outbox_v1 TO ni_engine;
