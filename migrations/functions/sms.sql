-- What the SMS notifier does with the database, as role ni_sms, each call a transaction of its own.

-- Who wants texts about these accounts.
CREATE OR REPLACE FUNCTION ni.sms_subscribers_v1(p_accounts text[])
RETURNS TABLE (account text, phone text, language text, types text[], since timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN QUERY
        SELECT s.account::text, s.phone, s.language, s.types, s.since
          FROM unnest(p_accounts) AS a (account)
          JOIN ni.sms_subscription AS s
            ON s.bucket = ni.bucket_of(a.account) AND s.account = a.account;
END
$$;

-- Takes the events of subscribed accounts over: what the inbox knows is dropped, what is to be told
-- becomes a message that waits. An event from before the inbox's floor, or older than p_age_s, can
-- be no message any more: it is dead at once, so that whoever looks finds it.
CREATE OR REPLACE FUNCTION ni.sms_take_v1(
    p_events ni.sms_event_v1[], p_age_s integer, OUT o_seen bigint, OUT o_too_old bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now    timestamptz := ni.clock();
    v_oldest timestamptz;
BEGIN
    -- DO UPDATE locks the rows that are there, in order; with DO NOTHING one could be pruned yet.
    INSERT INTO ni.sms_account AS a (bucket, account)
        SELECT DISTINCT ni.bucket_of(e.account), e.account FROM unnest(p_events) AS e
         ORDER BY 1, 2
    ON CONFLICT (bucket, account) DO UPDATE SET due_at = a.due_at;
    -- Read under the locks: where pruning has raised the floor meanwhile, it is seen here.
    SELECT greatest(f.event_time, v_now - make_interval(secs => p_age_s)) INTO v_oldest
      FROM ni.sms_inbox_floor AS f WHERE f.one FOR SHARE;
    WITH new AS MATERIALIZED (
        SELECT DISTINCT ON (e.event_id) e.*, ni.bucket_of(e.account) AS bucket,
               e.event_time < v_oldest AS too_old
          FROM unnest(p_events) AS e
         ORDER BY e.event_id
    ), seen AS (
        INSERT INTO ni.sms_inbox (bucket, event_id, account, sequence, event_time)
            SELECT n.bucket, n.event_id, n.account, n.sequence, n.event_time FROM new AS n
             WHERE NOT n.too_old ORDER BY n.event_id
        ON CONFLICT DO NOTHING RETURNING event_id
    ), kept AS (
        INSERT INTO ni.sms_message (bucket, event_id, account, sequence, type, event_time, phone,
                                    language, text, late, status, reason, expires_at, taken_at,
                                    changed_at)
            SELECT n.bucket, n.event_id, n.account, n.sequence, n.type, n.event_time, n.phone,
                   n.language, CASE WHEN l.late THEN n.late_text ELSE n.text END, l.late,
                   CASE WHEN n.too_old THEN 'dead' ELSE 'waiting' END,
                   CASE WHEN n.too_old THEN 'too_old' END,
                   n.event_time + make_interval(secs => p_age_s), v_now, v_now
              FROM new AS n
              JOIN ni.sms_account AS a ON a.bucket = n.bucket AND a.account = n.account
             CROSS JOIN LATERAL (SELECT coalesce(n.sequence < a.last_sequence,
                                                 n.event_time < a.last_time) AS late) AS l
             WHERE n.text IS NOT NULL
               AND (n.too_old OR n.event_id IN (SELECT s.event_id FROM seen AS s))
        ON CONFLICT DO NOTHING
    )
    SELECT (SELECT count(*) FROM seen), count(*) FILTER (WHERE n.too_old)
      INTO o_seen, o_too_old
      FROM new AS n;
    PERFORM ni.sms_advance_v1(p_events, v_now);
END
$$;

-- Notes how far the changes of these accounts, whose rows the caller has locked, have been taken
-- without a gap, and whose turn has come by it.
CREATE OR REPLACE FUNCTION ni.sms_advance_v1(p_events ni.sms_event_v1[], p_now timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    WITH first AS MATERIALIZED (
        SELECT a.bucket, a.account, coalesce(a.seen_sequence, e.least - 1) AS sequence
          FROM (SELECT ni.bucket_of(t.account) AS bucket, t.account, min(t.sequence) AS least
                  FROM unnest(p_events) AS t GROUP BY t.account) AS e
          JOIN ni.sms_account AS a ON a.bucket = e.bucket AND a.account = e.account
    ), reached AS MATERIALIZED (
        SELECT f.bucket, f.account, f.sequence + (
                   SELECT count(*)
                     FROM (SELECT i.sequence - row_number() OVER (ORDER BY i.sequence) AS island
                             FROM ni.sms_inbox AS i
                            WHERE i.bucket = f.bucket AND i.account = f.account
                              AND i.sequence > f.sequence) AS t
                    WHERE t.island = f.sequence) AS sequence
          FROM first AS f
    )
    UPDATE ni.sms_account AS a
       SET seen_sequence = r.sequence, waits = false,
           due_at = CASE
               WHEN a.waits THEN p_now
               WHEN a.due_at IS NULL AND EXISTS (
                    SELECT FROM ni.sms_message AS m
                     WHERE m.bucket = a.bucket AND m.account = a.account
                       AND m.status = 'waiting') THEN p_now
               ELSE a.due_at END
      FROM reached AS r
     WHERE a.bucket = r.bucket AND a.account = r.account;
END
$$;

-- Gives out the next message of at most p_limit accounts of a bucket, each for p_lease_s seconds.
-- Where changes before it have not been taken yet, it waits for them, at most p_gap_s seconds.
-- A try counts from here on, so that a message which kills its sender does not do so for ever. An
-- account whose row somebody has locked is left to the next call.
CREATE OR REPLACE FUNCTION ni.sms_lease_v1(
    p_bucket smallint, p_limit integer, p_lease_s integer, p_gap_s integer
) RETURNS TABLE (
    event_id uuid, account text, phone text, text text, tries integer, failures integer, lease uuid
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := ni.clock();
    v_account ni.sms_account;
    v_next    ni.sms_message;
    v_until   timestamptz;
BEGIN
    FOR v_account IN
        SELECT a.* FROM ni.sms_account AS a
         WHERE a.bucket = p_bucket AND a.due_at <= v_now
         ORDER BY a.due_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        UPDATE ni.sms_message AS m SET status = 'dead', reason = 'too_old', changed_at = v_now
         WHERE m.bucket = p_bucket AND m.account = v_account.account AND m.status = 'waiting'
           AND m.expires_at <= v_now;
        SELECT m.* INTO v_next FROM ni.sms_message AS m
         WHERE m.bucket = p_bucket AND m.account = v_account.account AND m.status = 'waiting'
         ORDER BY m.event_time, m.sequence, m.event_id LIMIT 1;
        v_until := v_next.taken_at + make_interval(secs => p_gap_s);
        IF v_next.event_id IS NULL THEN
            UPDATE ni.sms_account AS a SET due_at = NULL, lease = NULL
             WHERE a.bucket = p_bucket AND a.account = v_account.account;
            CONTINUE;
        ELSIF v_next.sequence > v_account.seen_sequence AND v_until > v_now THEN
            UPDATE ni.sms_account AS a SET due_at = v_until, lease = NULL, waits = true
             WHERE a.bucket = p_bucket AND a.account = v_account.account;
            CONTINUE;
        END IF;
        UPDATE ni.sms_message AS m
           SET tries = m.tries + 1, failures = m.failures + 1, changed_at = v_now
         WHERE m.bucket = p_bucket AND m.event_id = v_next.event_id;
        lease := gen_random_uuid();
        UPDATE ni.sms_account AS a
           SET due_at = v_now + make_interval(secs => p_lease_s), lease = sms_lease_v1.lease,
               waits = false,
               last_sequence = greatest(a.last_sequence, v_next.sequence),
               last_time = greatest(a.last_time, v_next.event_time),
               seen_sequence = greatest(a.seen_sequence, v_next.sequence)
         WHERE a.bucket = p_bucket AND a.account = v_account.account;
        RETURN QUERY SELECT v_next.event_id, v_account.account::text, v_next.phone, v_next.text,
                            v_next.tries + 1, v_next.failures + 1, sms_lease_v1.lease;
    END LOOP;
END
$$;

-- What became of a leased message: 'sent', 'kept', 'dead' or 'retry' (then after p_pause_ms; a try
-- that does not count is no failure). False: the lease had ended and is somebody else's now; that a
-- message was sent is noted all the same.
CREATE OR REPLACE FUNCTION ni.sms_settle_v1(
    p_bucket smallint, p_event_id uuid, p_account text, p_lease uuid, p_outcome text,
    p_reason text, p_pause_ms integer, p_counts boolean
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now   timestamptz := ni.clock();
    v_lease boolean;
BEGIN
    SELECT a.lease = p_lease INTO v_lease FROM ni.sms_account AS a
     WHERE a.bucket = p_bucket AND a.account = p_account FOR UPDATE;
    v_lease := coalesce(v_lease, false);
    IF p_outcome IN ('sent', 'kept') THEN
        UPDATE ni.sms_message AS m SET status = p_outcome, reason = NULL, changed_at = v_now
         WHERE m.bucket = p_bucket AND m.event_id = p_event_id AND m.status IN ('waiting', 'dead');
    ELSIF v_lease THEN
        UPDATE ni.sms_message AS m
           SET status = CASE p_outcome WHEN 'dead' THEN 'dead' ELSE 'waiting' END,
               reason = p_reason, changed_at = v_now,
               failures = m.failures - CASE WHEN p_counts THEN 0 ELSE 1 END
         WHERE m.bucket = p_bucket AND m.event_id = p_event_id AND m.status = 'waiting';
    END IF;
    IF v_lease THEN
        UPDATE ni.sms_account AS a
           SET lease = NULL,
               due_at = CASE
                   WHEN p_outcome = 'retry' THEN v_now + p_pause_ms * interval '1 millisecond'
                   WHEN EXISTS (SELECT FROM ni.sms_message AS m
                                 WHERE m.bucket = p_bucket AND m.account = p_account
                                   AND m.status = 'waiting') THEN v_now END
         WHERE a.bucket = p_bucket AND a.account = p_account;
    END IF;
    RETURN v_lease;
END
$$;

-- How many messages wait, counted up to p_most.
CREATE OR REPLACE FUNCTION ni.sms_waiting_v1(p_most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM (SELECT FROM ni.sms_message AS m WHERE m.status = 'waiting'
                     LIMIT p_most) AS waiting);
END
$$;

-- Puts dead messages back, one or (p_event_id null) at most p_limit, with tries and age from now.
-- Returns how many. Their texts and ids stay what they were.
CREATE OR REPLACE FUNCTION ni.sms_revive_v1(p_event_id uuid, p_age_s integer, p_limit integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now   timestamptz := ni.clock();
    v_ids   uuid[];
    v_count bigint;
BEGIN
    v_ids := ARRAY(SELECT m.event_id FROM ni.sms_message AS m
                    WHERE m.status = 'dead' AND (p_event_id IS NULL OR m.event_id = p_event_id)
                    ORDER BY m.event_time LIMIT p_limit);
    INSERT INTO ni.sms_account AS a (bucket, account)
        SELECT DISTINCT m.bucket, m.account FROM ni.sms_message AS m
         WHERE m.event_id = ANY (v_ids) ORDER BY 1, 2
    ON CONFLICT (bucket, account) DO UPDATE SET due_at = a.due_at;
    UPDATE ni.sms_message AS m
       SET status = 'waiting', reason = NULL, tries = 0, failures = 0, changed_at = v_now,
           expires_at = v_now + make_interval(secs => p_age_s)
     WHERE m.event_id = ANY (v_ids) AND m.status = 'dead';
    GET DIAGNOSTICS v_count = ROW_COUNT;
    UPDATE ni.sms_account AS a SET due_at = v_now
     WHERE a.due_at IS NULL AND (a.bucket, a.account) IN (
           SELECT m.bucket, m.account FROM ni.sms_message AS m WHERE m.event_id = ANY (v_ids));
    RETURN v_count;
END
$$;

-- Forgets, at most p_limit rows of each kind: ids of events that are too old to be sent anyhow, or
-- beyond the p_ids newest; messages that are done, p_keep_days after; accounts that nobody wants
-- texts about and that have none waiting.
CREATE OR REPLACE FUNCTION ni.sms_prune_v1(
    p_age_s integer, p_ids integer, p_keep_days integer, p_limit integer,
    OUT o_ids bigint, OUT o_messages bigint, OUT o_accounts bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now   timestamptz := ni.clock();
    v_floor timestamptz := v_now - make_interval(secs => p_age_s);
BEGIN
    v_floor := greatest(v_floor, (SELECT i.event_time FROM ni.sms_inbox AS i
                                   ORDER BY i.event_time DESC OFFSET p_ids LIMIT 1)
                                 + interval '1 microsecond');
    -- The floor rises before anything below it is forgotten, and takers read it under a lock.
    UPDATE ni.sms_inbox_floor AS f SET event_time = v_floor
     WHERE f.one AND f.event_time < v_floor;
    DELETE FROM ni.sms_inbox AS i
     WHERE (i.bucket, i.event_id) IN (
           SELECT t.bucket, t.event_id FROM ni.sms_inbox AS t
            WHERE t.event_time < v_floor ORDER BY t.event_time LIMIT p_limit);
    GET DIAGNOSTICS o_ids = ROW_COUNT;
    DELETE FROM ni.sms_message AS m
     WHERE (m.bucket, m.event_id) IN (
           SELECT t.bucket, t.event_id FROM ni.sms_message AS t
            WHERE t.status <> 'waiting'
              AND t.changed_at < v_now - make_interval(days => p_keep_days)
            ORDER BY t.changed_at LIMIT p_limit);
    GET DIAGNOSTICS o_messages = ROW_COUNT;
    DELETE FROM ni.sms_account AS a
     WHERE (a.bucket, a.account) IN (
           SELECT t.bucket, t.account FROM ni.sms_account AS t
            WHERE t.due_at IS NULL AND t.last_time < v_floor
              AND NOT EXISTS (SELECT FROM ni.sms_inbox AS i
                               WHERE i.bucket = t.bucket AND i.account = t.account)
            LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS o_accounts = ROW_COUNT;
END
$$;

-- The door through which the notifier gets its events where there is no RabbitMQ.
GRANT EXECUTE ON FUNCTION
    ni.open_event_queue_v1, ni.take_deliveries_v1, ni.end_deliveries_v1, ni.delay_deliveries_v1,
    ni.bury_deliveries_v1, ni.leave_event_queue_v1 TO ni_sms;
