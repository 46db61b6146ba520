-- How the SMS notifier forgets, in small steps, as role ni_sms. Each step begins where the last one
-- ended: what it deleted stays in the indexes for as long as anybody's transaction is open.

-- The time of the event that has p_places newer ones in the inbox, counted from p_from (null: from
-- the newest); null: there are not so many.
CREATE OR REPLACE FUNCTION ni.sms_place_v1(p_from timestamptz, p_places integer)
RETURNS timestamptz
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN (SELECT i.event_time FROM ni.sms_inbox AS i
             WHERE i.event_time <= coalesce(p_from, 'infinity')
               AND i.event_time >= (SELECT f.event_time FROM ni.sms_inbox_floor AS f WHERE f.one)
             ORDER BY i.event_time DESC OFFSET p_places LIMIT 1);
END
$$;

-- Raises the inbox's floor to p_age_s before now, and above p_last. What is below it is forgotten
-- from then on: takers read the floor under a lock, and keep nothing from before it.
CREATE OR REPLACE FUNCTION ni.sms_raise_floor_v1(p_age_s integer, p_last timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_floor timestamptz := greatest(ni.clock() - make_interval(secs => p_age_s),
                                    p_last + interval '1 microsecond');
BEGIN
    UPDATE ni.sms_inbox_floor AS f SET event_time = v_floor
     WHERE f.one AND f.event_time < v_floor;
END
$$;

-- Forgets at most p_limit ids of events from p_from on that lie below the floor; o_to: how far.
CREATE OR REPLACE FUNCTION ni.sms_forget_ids_v1(
    p_from timestamptz, p_limit integer, OUT o_count bigint, OUT o_to timestamptz
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    WITH gone AS (
        DELETE FROM ni.sms_inbox AS i
         WHERE (i.bucket, i.event_id) IN (
               SELECT t.bucket, t.event_id FROM ni.sms_inbox AS t
                WHERE t.event_time >= coalesce(p_from, '-infinity')
                  AND t.event_time < (SELECT f.event_time FROM ni.sms_inbox_floor AS f WHERE f.one)
                ORDER BY t.event_time LIMIT p_limit)
        RETURNING i.event_time
    )
    SELECT count(*), coalesce(max(g.event_time), p_from) INTO o_count, o_to FROM gone AS g;
END
$$;

-- Forgets at most p_limit messages that have been done for p_keep_days, from those of p_from on;
-- o_to: how far.
CREATE OR REPLACE FUNCTION ni.sms_forget_messages_v1(
    p_from timestamptz, p_keep_days integer, p_limit integer,
    OUT o_count bigint, OUT o_to timestamptz
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_before timestamptz := ni.clock() - make_interval(days => p_keep_days);
BEGIN
    WITH gone AS (
        DELETE FROM ni.sms_message AS m
         WHERE (m.bucket, m.event_id) IN (
               SELECT t.bucket, t.event_id FROM ni.sms_message AS t
                WHERE t.status <> 'waiting' AND t.changed_at >= coalesce(p_from, '-infinity')
                  AND t.changed_at < v_before
                ORDER BY t.changed_at LIMIT p_limit)
        RETURNING m.changed_at
    )
    SELECT count(*), coalesce(max(g.changed_at), p_from) INTO o_count, o_to FROM gone AS g;
END
$$;

-- Looks through the p_limit accounts behind (p_bucket, p_after), and forgets those of which nothing
-- waits and nothing is remembered. o_bucket and o_after: how far; null: these were the last.
CREATE OR REPLACE FUNCTION ni.sms_forget_accounts_v1(
    p_bucket smallint, p_after text, p_limit integer,
    OUT o_count bigint, OUT o_bucket smallint, OUT o_after text
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_floor timestamptz := (SELECT f.event_time FROM ni.sms_inbox_floor AS f WHERE f.one);
    v_idle  text[];
BEGIN
    SELECT t.bucket, t.account INTO o_bucket, o_after FROM ni.sms_account AS t
     WHERE (t.bucket, t.account) > (p_bucket, p_after)
     ORDER BY t.bucket, t.account OFFSET p_limit - 1 LIMIT 1;
    SELECT array_agg(l.account) INTO v_idle
      FROM (SELECT a.account FROM ni.sms_account AS a
             WHERE (a.bucket, a.account) > (p_bucket, p_after)
               AND (o_bucket IS NULL OR (a.bucket, a.account) <= (o_bucket, o_after))
               AND a.due_at IS NULL AND a.last_time < v_floor
             ORDER BY a.bucket, a.account LIMIT p_limit FOR UPDATE SKIP LOCKED) AS l;
    -- A statement of its own: whoever has taken an event before the lock is seen here.
    DELETE FROM ni.sms_account AS a
     USING unnest(v_idle) AS t (account)
     WHERE a.bucket = ni.bucket_of(t.account) AND a.account = t.account
       AND a.due_at IS NULL AND a.last_time < v_floor
       AND NOT EXISTS (SELECT FROM ni.sms_inbox AS i
                        WHERE i.bucket = a.bucket AND i.account = a.account);
    GET DIAGNOSTICS o_count = ROW_COUNT;
END
$$;
