-- What the SMS notifier does with the database, as role ni_sms, each call a transaction of its own:
-- events in, texts out. What is forgotten stands in sms_forget.sql.

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

-- Locks the rows of these accounts, in order, and makes those that are missing. What is locked only
-- is not changed: a row that many transactions lock does not grow by it.
CREATE OR REPLACE FUNCTION ni.sms_lock_v1(p_accounts text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_accounts text[] := ARRAY(SELECT DISTINCT a FROM unnest(p_accounts) AS a);
    v_locked   bigint;
BEGIN
    LOOP
        INSERT INTO ni.sms_account AS a (bucket, account)
            SELECT ni.bucket_of(t.account), t.account FROM unnest(v_accounts) AS t (account)
             ORDER BY 1, t.account COLLATE "C"
        ON CONFLICT DO NOTHING;
        PERFORM FROM unnest(v_accounts) AS t (account)
           JOIN ni.sms_account AS a ON a.bucket = ni.bucket_of(t.account) AND a.account = t.account
          ORDER BY a.bucket, a.account FOR UPDATE OF a;
        GET DIAGNOSTICS v_locked = ROW_COUNT;
        -- Fewer: one that was there has been forgotten before it was locked.
        EXIT WHEN v_locked = cardinality(v_accounts);
    END LOOP;
END
$$;

-- Takes the events of subscribed accounts over: what the inbox knows is dropped, what is to be told
-- becomes a message that waits. An event from before the inbox's floor, or older than p_age_s, and
-- those of an account of which p_account_max wait already can be no message any more: they are dead
-- at once, so that whoever looks finds them, with the words that may be read at any later time.
CREATE OR REPLACE FUNCTION ni.sms_take_v1(
    p_events ni.sms_event_v1[], p_age_s integer, p_gap_s integer, p_account_max integer,
    OUT o_seen bigint, OUT o_too_old bigint, OUT o_too_many bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now    timestamptz;
    v_oldest timestamptz;
BEGIN
    PERFORM ni.sms_lock_v1(ARRAY(SELECT e.account FROM unnest(p_events) AS e));
    v_now := ni.clock();
    -- Read under the locks: where the floor has been raised meanwhile, it is seen here.
    SELECT greatest(f.event_time, v_now - make_interval(secs => p_age_s)) INTO v_oldest
      FROM ni.sms_inbox_floor AS f WHERE f.one FOR SHARE;
    WITH new AS MATERIALIZED (
        SELECT DISTINCT ON (e.event_id) e.*, ni.bucket_of(e.account) AS bucket,
               e.event_time < v_oldest AS too_old
          FROM unnest(p_events) AS e
         ORDER BY e.event_id
    ), seen AS (
        INSERT INTO ni.sms_inbox (bucket, event_id, account, sequence, event_time, taken_at)
            SELECT n.bucket, n.event_id, n.account, n.sequence, n.event_time, v_now FROM new AS n
             WHERE NOT n.too_old ORDER BY n.event_id
        ON CONFLICT DO NOTHING RETURNING event_id
    ), before AS MATERIALIZED (
        SELECT a.*, (SELECT count(*)
                       FROM (SELECT FROM ni.sms_message AS m
                              WHERE m.bucket = a.bucket AND m.account = a.account
                                AND m.status = 'waiting' AND m.event_time >= a.first_time
                              LIMIT p_account_max) AS waiting) AS waiting
          FROM (SELECT DISTINCT n.bucket, n.account FROM new AS n) AS d
          JOIN ni.sms_account AS a ON a.bucket = d.bucket AND a.account = d.account
    ), told AS MATERIALIZED (
        SELECT n.*, coalesce(n.sequence < b.last_sequence, n.event_time < b.last_time) AS late,
               CASE WHEN n.too_old THEN 'too_old'
                    WHEN b.waiting + row_number() OVER (
                             PARTITION BY n.bucket, n.account, n.too_old
                             ORDER BY n.event_time, n.sequence, n.event_id) > p_account_max
                    THEN 'too_many' END AS reason
          FROM new AS n JOIN before AS b ON b.bucket = n.bucket AND b.account = n.account
         WHERE n.text IS NOT NULL
           AND (n.too_old OR n.event_id IN (SELECT s.event_id FROM seen AS s))
    ), kept AS (
        INSERT INTO ni.sms_message (bucket, event_id, account, sequence, type, event_time, phone,
                                    language, text, late, status, reason, expires_at, taken_at,
                                    changed_at)
            SELECT t.bucket, t.event_id, t.account, t.sequence, t.type, t.event_time,
                   coalesce(s.phone, t.phone), t.language,
                   CASE WHEN t.late OR t.reason IS NOT NULL THEN t.late_text ELSE t.text END,
                   t.late, CASE WHEN t.reason IS NULL THEN 'waiting' ELSE 'dead' END, t.reason,
                   t.event_time + make_interval(secs => p_age_s), v_now, v_now
              FROM told AS t
              -- Who wanted it may have another number since the text was made.
              LEFT JOIN ni.sms_subscription AS s ON s.bucket = t.bucket AND s.account = t.account
        ON CONFLICT DO NOTHING RETURNING reason
    )
    SELECT (SELECT count(*) FROM seen), (SELECT count(*) FROM new AS n WHERE n.too_old),
           (SELECT count(*) FROM kept AS k WHERE k.reason = 'too_many')
      INTO o_seen, o_too_old, o_too_many;
    PERFORM ni.sms_advance_v1(p_events, v_now, p_gap_s);
END
$$;

-- How far the changes of an account have been taken from p_sequence on. A missing one is the end,
-- where what comes behind it was taken after p_given_up; o_since: when that was. At most 1,000 are
-- looked through: o_since is null then, too, and whoever needs more asks again.
CREATE OR REPLACE FUNCTION ni.sms_reached_v1(
    p_bucket smallint, p_account text, p_sequence bigint, p_given_up timestamptz,
    OUT o_sequence bigint, OUT o_since timestamptz
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_next record;
BEGIN
    o_sequence := p_sequence;
    FOR v_next IN
        SELECT i.sequence, i.taken_at FROM ni.sms_inbox AS i
         WHERE i.bucket = p_bucket AND i.account = p_account AND i.sequence > p_sequence
         ORDER BY i.sequence LIMIT 1000
    LOOP
        IF v_next.sequence - 1 > o_sequence AND v_next.taken_at > p_given_up THEN
            o_since := v_next.taken_at;
            RETURN;
        END IF;
        o_sequence := v_next.sequence;
    END LOOP;
END
$$;

-- Notes how far the changes of these accounts, whose rows the caller has locked, have been taken,
-- and whose turn has come by it. A row of which nothing changes is left as it is.
CREATE OR REPLACE FUNCTION ni.sms_advance_v1(
    p_events ni.sms_event_v1[], p_now timestamptz, p_gap_s integer
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    WITH given AS MATERIALIZED (
        SELECT t.account, min(t.sequence) AS lowest,
               min(t.event_time) FILTER (WHERE t.text IS NOT NULL) AS first_time
          FROM unnest(p_events) AS t GROUP BY t.account
    ), locked AS MATERIALIZED (
        SELECT a.bucket, a.account, a.waits, a.due_at, least(a.first_time, g.first_time) AS first,
               (ni.sms_reached_v1(
                    a.bucket, a.account, coalesce(a.seen_sequence, g.lowest - 1),
                    p_now - make_interval(secs => p_gap_s))).o_sequence AS sequence
          FROM given AS g
          JOIN ni.sms_account AS a ON a.bucket = ni.bucket_of(g.account) AND a.account = g.account
    ), reached AS MATERIALIZED (
        SELECT l.bucket, l.account, l.sequence, l.first,
               CASE WHEN l.waits OR l.due_at IS NULL AND EXISTS (
                         SELECT FROM ni.sms_message AS m
                          WHERE m.bucket = l.bucket AND m.account = l.account
                            AND m.status = 'waiting' AND m.event_time >= l.first)
                    THEN p_now ELSE l.due_at END AS due_at
          FROM locked AS l
    )
    UPDATE ni.sms_account AS a
       SET seen_sequence = r.sequence, waits = false, due_at = r.due_at, first_time = r.first
      FROM reached AS r
     WHERE a.bucket = r.bucket AND a.account = r.account
       AND (a.seen_sequence, a.waits, a.due_at, a.first_time)
           IS DISTINCT FROM (r.sequence, false, r.due_at, r.first);
END
$$;

-- Gives out the next message of at most p_limit accounts of a bucket, each for p_lease_s seconds.
-- An account whose row somebody has locked is left to the next call.
--
-- Accounts are looked through in the order of their turns from p_floor on (null: from the start).
-- o_floor is what the next call may say: nobody's turn came before it. It is ten seconds less, for
-- what is committed after it was dated; what even so lies before it is found from the start.
CREATE OR REPLACE FUNCTION ni.sms_lease_v1(
    p_bucket smallint, p_floor timestamptz, p_limit integer, p_lease_s integer, p_gap_s integer,
    OUT o_messages ni.sms_leased_v1[], OUT o_floor timestamptz
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now     timestamptz := ni.clock();
    v_floor   timestamptz := coalesce(p_floor, '-infinity');
    v_account ni.sms_account;
    v_message ni.sms_leased_v1;
BEGIN
    o_messages := '{}';
    -- More than are wanted, for some have nothing to send in the end.
    FOR v_account IN
        SELECT a.* FROM ni.sms_account AS a
         WHERE a.bucket = p_bucket AND a.due_at >= v_floor AND a.due_at <= v_now
         ORDER BY a.due_at LIMIT p_limit + 100 FOR UPDATE SKIP LOCKED
    LOOP
        EXIT WHEN cardinality(o_messages) >= p_limit;
        v_message := ni.sms_next_v1(v_account, v_now, p_lease_s, p_gap_s);
        IF v_message.event_id IS NOT NULL THEN
            o_messages := array_append(o_messages, v_message);
        END IF;
    END LOOP;
    SELECT coalesce(min(a.due_at), v_now) - interval '10 seconds' INTO o_floor
      FROM ni.sms_account AS a
     WHERE a.bucket = p_bucket AND a.due_at >= v_floor AND a.due_at <= v_now;
END
$$;

-- The next message of an account, whose row the caller has locked and whose turn it is, or null.
-- Where changes before it have not been taken yet, it waits for them, at most p_gap_s seconds from
-- when that was seen. What has no number waits with them, for nobody knows its place. A try counts
-- from here on, so that a message which kills its sender does not do so for ever.
CREATE OR REPLACE FUNCTION ni.sms_next_v1(
    p_account ni.sms_account, p_now timestamptz, p_lease_s integer, p_gap_s integer
) RETURNS ni.sms_leased_v1
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_gap   interval := make_interval(secs => p_gap_s);
    v_new   ni.sms_account := p_account;
    v_next  ni.sms_message;
    v_since timestamptz;
    v_given ni.sms_leased_v1;
BEGIN
    v_new.lease := NULL;
    v_new.waits := false;
    SELECT m.* INTO v_next FROM ni.sms_message AS m
     WHERE m.bucket = p_account.bucket AND m.account = p_account.account
       AND m.status = 'waiting' AND m.event_time >= p_account.first_time
     ORDER BY m.event_time, m.sequence, m.event_id LIMIT 1;
    v_new.first_time := coalesce(v_next.event_time, 'infinity');
    SELECT r.o_sequence, r.o_since INTO v_new.seen_sequence, v_since
      FROM ni.sms_reached_v1(p_account.bucket, p_account.account, p_account.seen_sequence,
                             p_now - v_gap) AS r;
    IF v_next.event_id IS NULL THEN
        v_new.due_at := NULL;
    ELSIF v_next.expires_at <= p_now THEN
        PERFORM ni.sms_expire_v1(v_new, p_now);
        v_new.due_at := p_now;
    ELSIF v_since IS NOT NULL AND coalesce(v_next.sequence > v_new.seen_sequence, true) THEN
        v_new.waits := true;
        v_new.due_at := v_since + v_gap;
    ELSIF v_next.sequence > v_new.seen_sequence
          AND v_new.seen_sequence > p_account.seen_sequence THEN
        v_new.due_at := p_now;  -- there may be more between them than was looked through
    ELSE
        UPDATE ni.sms_message AS m SET tries = m.tries + 1, failures = m.failures + 1
         WHERE m.bucket = v_next.bucket AND m.event_id = v_next.event_id;
        v_new.lease := gen_random_uuid();
        v_new.due_at := p_now + make_interval(secs => p_lease_s);
        v_new.last_sequence := greatest(v_new.last_sequence, v_next.sequence);
        v_new.last_time := greatest(v_new.last_time, v_next.event_time);
        v_new.seen_sequence := greatest(v_new.seen_sequence, v_next.sequence);
        v_given := (v_next.event_id, v_next.account, v_next.phone, v_next.text, v_next.tries + 1,
                    v_next.failures + 1, v_new.lease);
    END IF;
    UPDATE ni.sms_account AS a
       SET due_at = v_new.due_at, lease = v_new.lease, waits = v_new.waits,
           last_sequence = v_new.last_sequence, last_time = v_new.last_time,
           seen_sequence = v_new.seen_sequence, first_time = v_new.first_time
     WHERE a.bucket = p_account.bucket AND a.account = p_account.account;
    RETURN v_given;
END
$$;

-- Gives up the messages of a locked account that are too old to be sent, at most 50: the others in
-- their next turn, so that no account takes up everybody's time.
CREATE OR REPLACE FUNCTION ni.sms_expire_v1(p_account ni.sms_account, p_now timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE ni.sms_message AS m SET status = 'dead', reason = 'too_old', changed_at = p_now
     WHERE (m.bucket, m.event_id) IN (
           SELECT t.bucket, t.event_id FROM ni.sms_message AS t
            WHERE t.bucket = p_account.bucket AND t.account = p_account.account
              AND t.status = 'waiting' AND t.event_time >= p_account.first_time
              AND t.expires_at <= p_now
            ORDER BY t.event_time, t.sequence, t.event_id LIMIT 50);
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
    v_now   timestamptz;
    v_first timestamptz;
    v_lease boolean;
BEGIN
    SELECT a.lease = p_lease, a.first_time INTO v_lease, v_first FROM ni.sms_account AS a
     WHERE a.bucket = p_bucket AND a.account = p_account FOR UPDATE;
    v_lease := coalesce(v_lease, false);
    v_now := ni.clock();
    IF p_outcome IN ('sent', 'kept') THEN
        UPDATE ni.sms_message AS m SET status = p_outcome, reason = NULL, changed_at = v_now
         WHERE m.bucket = p_bucket AND m.event_id = p_event_id AND m.status IN ('waiting', 'dead');
    ELSIF v_lease THEN
        UPDATE ni.sms_message AS m
           SET status = CASE p_outcome WHEN 'dead' THEN 'dead' ELSE 'waiting' END,
               changed_at = CASE p_outcome WHEN 'dead' THEN v_now ELSE m.changed_at END,
               reason = p_reason,
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
                                   AND m.status = 'waiting' AND m.event_time >= v_first)
                   THEN v_now END
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

-- The door through which the notifier gets its events where there is no RabbitMQ.
GRANT EXECUTE ON FUNCTION
    ni.open_event_queue_v1, ni.take_deliveries_v1, ni.end_deliveries_v1, ni.delay_deliveries_v1,
    ni.bury_deliveries_v1, ni.leave_event_queue_v1 TO ni_sms;
