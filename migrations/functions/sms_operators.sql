-- What operators do with subscriptions and texts, as role ni_owner.

-- Wants texts about an account, in place of what was wanted before; returns since when.
-- Texts that wait go to the new number; those that have been tried may be with the gateway, which
-- must not see one id with two numbers, so they are given up.
CREATE OR REPLACE FUNCTION ni.sms_subscribe_v1(
    p_account text, p_phone text, p_language text, p_types text[]
) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_bucket smallint := ni.bucket_of(p_account);
    v_now    timestamptz;
    v_since  timestamptz;
BEGIN
    -- Whoever takes events or sends texts holds this lock while it reads the number.
    PERFORM ni.sms_lock_v1(ARRAY[p_account]);
    v_now := ni.clock();
    UPDATE ni.sms_subscription AS s
       SET phone = p_phone, language = p_language, types = p_types
     WHERE s.bucket = v_bucket AND s.account = p_account
    RETURNING s.since INTO v_since;
    IF v_since IS NULL THEN
        v_since := v_now;
        INSERT INTO ni.sms_subscription (bucket, account, phone, language, types, since)
        VALUES (v_bucket, p_account, p_phone, p_language, p_types, v_since);
        -- Whatever happened while nobody wanted texts is not waited for.
        UPDATE ni.sms_account AS a SET seen_sequence = NULL
         WHERE a.bucket = v_bucket AND a.account = p_account AND a.seen_sequence IS NOT NULL;
    END IF;
    UPDATE ni.sms_message AS m
       SET phone = CASE WHEN m.tries = 0 THEN p_phone ELSE m.phone END,
           status = CASE WHEN m.tries = 0 THEN 'waiting' ELSE 'dead' END,
           reason = CASE WHEN m.tries = 0 THEN m.reason ELSE 'phone_changed' END,
           changed_at = CASE WHEN m.tries = 0 THEN m.changed_at ELSE v_now END
     WHERE m.bucket = v_bucket AND m.account = p_account AND m.status = 'waiting'
       AND m.phone <> p_phone;
    RETURN v_since;
END
$$;

-- Wants no texts about an account any more; false when nobody did. What is missed from now on is
-- not waited for when texts are wanted again.
CREATE OR REPLACE FUNCTION ni.sms_unsubscribe_v1(p_account text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_bucket smallint := ni.bucket_of(p_account);
BEGIN
    PERFORM ni.sms_lock_v1(ARRAY[p_account]);
    UPDATE ni.sms_account AS a SET seen_sequence = NULL
     WHERE a.bucket = v_bucket AND a.account = p_account AND a.seen_sequence IS NOT NULL;
    DELETE FROM ni.sms_subscription AS s WHERE s.bucket = v_bucket AND s.account = p_account;
    RETURN FOUND;
END
$$;

-- Puts dead messages back, one or (p_event_id null) at most p_limit. Returns how many. Their texts
-- and ids stay what they were. Left alone is what is older than p_age_s or was too old before, but
-- where p_old says otherwise, then with an age from now; and what was for another number than the
-- one that is wanted now. `tries` stays above 0 where the gateway may know the id.
CREATE OR REPLACE FUNCTION ni.sms_revive_v1(
    p_event_id uuid, p_age_s integer, p_limit integer, p_old boolean
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now   timestamptz := ni.clock();
    v_age   interval := make_interval(secs => p_age_s);
    v_ids   uuid[];
    v_count bigint;
BEGIN
    v_ids := ARRAY(
        SELECT m.event_id FROM ni.sms_message AS m
          JOIN ni.sms_subscription AS s
            ON s.bucket = m.bucket AND s.account = m.account AND s.phone = m.phone
         WHERE m.status = 'dead' AND (p_event_id IS NULL OR m.event_id = p_event_id)
           AND (p_old OR m.event_time > v_now - v_age AND m.reason IS DISTINCT FROM 'too_old')
         ORDER BY m.event_time LIMIT p_limit);
    PERFORM ni.sms_lock_v1(ARRAY(SELECT m.account FROM ni.sms_message AS m
                                  WHERE m.event_id = ANY (v_ids)));
    WITH back AS (
        UPDATE ni.sms_message AS m
           SET status = 'waiting', reason = NULL, tries = least(m.tries, 1), failures = 0,
               changed_at = v_now,
               expires_at = CASE WHEN p_old THEN v_now + v_age ELSE m.event_time + v_age END
          FROM ni.sms_subscription AS s
         WHERE m.event_id = ANY (v_ids) AND m.status = 'dead'
           AND s.bucket = m.bucket AND s.account = m.account AND s.phone = m.phone
        RETURNING m.bucket, m.account, m.event_time
    ), woken AS (
        UPDATE ni.sms_account AS a
           SET due_at = coalesce(a.due_at, v_now), first_time = least(a.first_time, b.first_time)
          FROM (SELECT k.bucket, k.account, min(k.event_time) AS first_time
                  FROM back AS k GROUP BY k.bucket, k.account) AS b
         WHERE a.bucket = b.bucket AND a.account = b.account
    )
    SELECT count(*) INTO v_count FROM back;
    RETURN v_count;
END
$$;
