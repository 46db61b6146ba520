-- Queues of events in PostgreSQL: the embedded door, where there is no RabbitMQ.

-- Makes a queue when it is missing, and gives it to p_holder for p_lease_s seconds: 'mine'; 'held'
-- when somebody else has it, 'full' when there are p_queues_max queues already. What a holder
-- before had in its hands is due at once, so that it comes first again; what it gave back for later
-- comes when it said.
CREATE OR REPLACE FUNCTION ni.open_event_queue_v1(
    p_queue text, p_pattern text, p_temporary boolean, p_queues_max integer, p_holder uuid,
    p_lease_s integer
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now    timestamptz := ni.clock();
    v_until  timestamptz := v_now + make_interval(secs => p_lease_s);
    v_before record;
BEGIN
    SELECT q.holder, q.held_until INTO v_before
      FROM ni.event_queue AS q WHERE q.bucket = 0 AND q.queue = p_queue FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        IF (SELECT count(*) FROM ni.event_queue) >= p_queues_max THEN
            RETURN 'full';
        END IF;
        INSERT INTO ni.event_queue
        VALUES (0, p_queue, p_pattern, p_temporary, p_holder, v_until) ON CONFLICT DO NOTHING;
        RETURN CASE WHEN FOUND THEN 'mine' ELSE 'held' END;
    END IF;
    -- A lease that lies too far ahead was given by a clock that has gone back since.
    IF v_before.holder <> p_holder AND v_before.held_until > v_now
       AND v_before.held_until <= v_until THEN
        RETURN 'held';
    END IF;
    UPDATE ni.event_queue AS q
       SET pattern = p_pattern, temporary = p_temporary, holder = p_holder, held_until = v_until
     WHERE q.bucket = 0 AND q.queue = p_queue;
    IF v_before.holder <> p_holder THEN
        UPDATE ni.event_delivery AS d SET due_at = v_now
         WHERE d.bucket = 0 AND d.queue = p_queue AND d.due_at > v_now AND d.holder IS NOT NULL;
    END IF;
    RETURN 'mine';
END
$$;

-- Lets the next consumer have the queue.
CREATE OR REPLACE FUNCTION ni.leave_event_queue_v1(p_queue text, p_holder uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ni.event_queue AS q SET held_until = ni.clock()
     WHERE q.bucket = 0 AND q.queue = p_queue AND q.holder = p_holder;
END
$$;

-- Removes a queue with what is in it.
CREATE OR REPLACE FUNCTION ni.drop_event_queue_v1(p_queue text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM ni.event_queue AS q WHERE q.bucket = 0 AND q.queue = p_queue;
    DELETE FROM ni.event_delivery AS d WHERE d.bucket = 0 AND d.queue = p_queue;
END
$$;

-- Removes temporary queues whose consumers have been silent for p_silent_s seconds.
CREATE OR REPLACE FUNCTION ni.sweep_event_queues_v1(p_silent_s integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_queue   text;
    v_dropped integer := 0;
BEGIN
    FOR v_queue IN SELECT q.queue FROM ni.event_queue AS q
                    WHERE q.bucket = 0 AND q.temporary
                      AND q.held_until < ni.clock() - make_interval(secs => p_silent_s) LOOP
        PERFORM ni.drop_event_queue_v1(v_queue);
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
END
$$;

-- Takes events of one bucket and lap out of the outbox and gives them to every queue that wants
-- their type, in one commit; what no queue wants is gone, too. While there is no lasting queue,
-- nothing is given and nothing taken: false. What somebody else took before is not given again.
--
-- A queue that is given something cannot be removed meanwhile: else that would stay behind in it.
-- A temporary one that is being removed gets nothing, and nobody waits for it.
CREATE OR REPLACE FUNCTION ni.deliver_events_v1(
    p_bucket smallint, p_lap smallint, p_ids uuid[], p_types text[], p_bodies bytea[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now       timestamptz := ni.clock();
    v_temporary text[];
    v_taken     uuid[];
    v_all       boolean;
BEGIN
    PERFORM FROM ni.event_queue AS q WHERE q.bucket = 0 AND NOT q.temporary FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    v_temporary := ARRAY(SELECT q.queue FROM ni.event_queue AS q
                          WHERE q.bucket = 0 AND q.temporary FOR KEY SHARE SKIP LOCKED);
    v_taken := ni.take_events_v1(p_bucket, p_lap, p_ids);
    v_all := cardinality(v_taken) = cardinality(p_ids);
    INSERT INTO ni.event_delivery
        SELECT 0, q.queue, e.event_id, e.body, 0, v_now, NULL
          FROM unnest(p_ids, p_types, p_bodies) AS e (event_id, type, body)
         CROSS JOIN LATERAL (SELECT t.queue FROM ni.event_queue AS t
                              WHERE t.bucket = 0 AND e.type ~ t.pattern
                                AND (NOT t.temporary OR t.queue = ANY (v_temporary))) AS q
         WHERE v_all OR e.event_id = ANY (v_taken)
    ON CONFLICT DO NOTHING;
    RETURN true;
END
$$;

-- Gives a consumer at most p_limit deliveries after p_floor for p_lease_s seconds, in the order of
-- their ids. What was in the hands of a consumer that ended comes alone, and only where p_alone
-- says that this one has nothing in hand: nothing shares its fate. What was delivered
-- p_attempts_max times is put aside instead. Refused (NI005) when the queue is somebody else's.
CREATE OR REPLACE FUNCTION ni.take_deliveries_v1(
    p_queue text, p_holder uuid, p_floor uuid, p_limit integer, p_lease_s integer,
    p_attempts_max integer, p_alone boolean
) RETURNS TABLE (event_id uuid, body bytea, attempt integer, alone boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now    timestamptz := ni.clock();
    v_ids    uuid[];
    v_orphan integer;
BEGIN
    PERFORM FROM ni.event_queue AS q
      WHERE q.bucket = 0 AND q.queue = p_queue AND q.holder = p_holder FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the queue % has another consumer', p_queue USING ERRCODE = 'NI005';
    END IF;
    SELECT array_agg(t.event_id ORDER BY t.event_id), min(t.place) FILTER (WHERE t.is_orphan)
      INTO v_ids, v_orphan
      FROM (SELECT d.event_id, d.is_orphan, row_number() OVER (ORDER BY d.event_id) AS place
              FROM (SELECT e.event_id, e.holder IS NOT NULL AS is_orphan
                      FROM ni.event_delivery AS e
                     WHERE e.bucket = 0 AND e.queue = p_queue AND e.event_id > p_floor
                       AND e.due_at <= v_now
                     ORDER BY e.event_id LIMIT p_limit FOR UPDATE SKIP LOCKED) AS d) AS t;
    v_ids := CASE WHEN v_orphan IS NULL THEN v_ids
                  WHEN v_orphan = 1 AND p_alone THEN v_ids[1:1]
                  ELSE v_ids[1:v_orphan - 1] END;
    IF v_ids IS NULL OR cardinality(v_ids) = 0 THEN
        RETURN;
    END IF;
    PERFORM ni.bury_deliveries_v1(
        p_queue, ARRAY(SELECT d.event_id FROM ni.event_delivery AS d
                        WHERE d.bucket = 0 AND d.queue = p_queue AND d.event_id = ANY (v_ids)
                          AND d.attempt >= p_attempts_max), 'delivered too often');
    RETURN QUERY
        WITH taken AS (
            UPDATE ni.event_delivery AS d
               SET attempt = d.attempt + 1, due_at = v_now + make_interval(secs => p_lease_s),
                   holder = p_holder
             WHERE d.bucket = 0 AND d.queue = p_queue AND d.event_id = ANY (v_ids)
            RETURNING d.event_id, d.body, d.attempt
        )
        SELECT t.*, coalesce(v_orphan = 1, false) FROM taken AS t ORDER BY t.event_id;
END
$$;

-- Ends deliveries: they are done.
CREATE OR REPLACE FUNCTION ni.end_deliveries_v1(p_queue text, p_ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM ni.event_delivery AS d
     WHERE d.bucket = 0 AND d.queue = p_queue AND d.event_id = ANY (p_ids);
END
$$;

-- Lets deliveries be taken p_after_ms from now: a longer lease for those that p_holder has in hand;
-- without a holder they are given back, with a pause before a new try.
CREATE OR REPLACE FUNCTION ni.delay_deliveries_v1(
    p_queue text, p_ids uuid[], p_after_ms bigint, p_holder uuid
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ni.event_delivery AS d
       SET due_at = ni.clock() + p_after_ms * interval '1 millisecond', holder = p_holder
     WHERE d.bucket = 0 AND d.queue = p_queue AND d.event_id = ANY (p_ids)
       AND (p_holder IS NULL OR d.holder = p_holder);
END
$$;

-- Puts deliveries aside, each with why.
CREATE OR REPLACE FUNCTION ni.bury_deliveries_v1(p_queue text, p_ids uuid[], p_reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH gone AS (
        DELETE FROM ni.event_delivery AS d
         WHERE d.bucket = 0 AND d.queue = p_queue AND d.event_id = ANY (p_ids)
        RETURNING d.event_id, d.body, d.attempt
    )
    INSERT INTO ni.event_dead
        SELECT 0, p_queue, g.event_id, g.body, g.attempt, p_reason, ni.clock() FROM gone AS g
    ON CONFLICT DO NOTHING;
END
$$;

-- Empties the file of the deliveries when nothing waits there; never waits itself.
CREATE OR REPLACE FUNCTION ni.turn_deliveries_v1(p_bytes bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_relation_size('ni.event_delivery') <= p_bytes THEN
        RETURN false;
    END IF;
    LOCK TABLE ni.event_delivery IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF EXISTS (SELECT FROM ni.event_delivery) THEN
        RETURN false;
    END IF;
    TRUNCATE TABLE ni.event_delivery;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;

-- Who relays forges what others believe: the engine's role alone.
REVOKE EXECUTE ON FUNCTION
    ni.open_event_queue_v1, ni.drop_event_queue_v1, ni.sweep_event_queues_v1, ni.deliver_events_v1,
    ni.take_deliveries_v1, ni.end_deliveries_v1, ni.delay_deliveries_v1, ni.bury_deliveries_v1,
    ni.turn_deliveries_v1, ni.leave_event_queue_v1 FROM public;
GRANT EXECUTE ON FUNCTION
    ni.open_event_queue_v1, ni.drop_event_queue_v1, ni.sweep_event_queues_v1, ni.deliver_events_v1,
    ni.take_deliveries_v1, ni.end_deliveries_v1, ni.delay_deliveries_v1, ni.bury_deliveries_v1,
    ni.turn_deliveries_v1, ni.leave_event_queue_v1 TO ni_engine;
