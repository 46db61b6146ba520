-- The night copy: what is asked of it, and how it is brought back from its notes.
--
-- Bringing back, a chunk a transaction, by day and behind the gate: (1) read notes by id; (2) place
-- a row for each key that has none and lock the copy's rows, leaving out what somebody holds; (3)
-- in a LATER statement copy them from the core, delete those that the core lacks; (4) delete only
-- the notes read in (1), only of keys got in (2). A trigger that writes one of these rows waits
-- until the chunk has committed and then writes what is newer; a chunk never locks, and never waits
-- for, a row of the core. Copying with one statement instead overwrites what a trigger has just
-- written with what was there before.

-- Notes everything of a relation: what the core has, and in each bucket what the copy has.
CREATE OR REPLACE FUNCTION ni.note_all_v1(p_relation text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO night.changed (bucket, relation, side)
        SELECT 0, p_relation, 'core'
        UNION ALL SELECT b.bucket, p_relation, 'night' FROM unnest(ni.buckets_v1()) AS b (bucket);
END
$$;

-- The trigger of TRUNCATE and of lookups.
CREATE OR REPLACE FUNCTION ni.note_everything() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ni.note_all_v1(TG_ARGV[0]);
    RETURN NULL;
END
$$;

-- The buckets that have notes, looked for above the floor.
CREATE OR REPLACE FUNCTION ni.noted_buckets_v1() RETURNS smallint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
BEGIN
    RETURN ARRAY(
        SELECT b.bucket FROM unnest(ni.buckets_v1()) AS b (bucket)
         WHERE EXISTS (SELECT FROM night.changed AS c
                        WHERE c.bucket = b.bucket
                          AND c.note_id > (SELECT n.settled FROM ni.night_copy AS n)
                        OFFSET 0));
END
$$;

-- What is wrong with the triggers or with what they stand on, in words for operators; nothing when
-- the copy can be trusted to be kept. Reads the catalogue alone, so that it waits for nobody, by
-- night neither.
CREATE OR REPLACE FUNCTION ni.night_copy_faults_v1() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT * FROM ni.night_triggers_v1()
    ), read_by AS MATERIALIZED (
        SELECT b.relation, b.oid FROM ni.night_views_v1() AS b JOIN pg_class AS c ON c.oid = b.oid
         WHERE c.relkind <> 'v'
    )
    SELECT format('day_alias.%s reads %s, which the night copy does not follow', r.relation,
                  r.oid::regclass)
      FROM read_by AS r
     WHERE NOT EXISTS (SELECT FROM wanted AS w
                        WHERE w.relation = r.relation AND w.root = r.oid)
    UNION ALL
    SELECT format('the night copy follows %s, which day_alias.%s does not read', s.source,
                  s.relation)
      FROM ni.night_source AS s
     WHERE NOT EXISTS (SELECT FROM read_by AS r
                        WHERE r.relation = s.relation AND r.oid = to_regclass(s.source))
    UNION ALL
    SELECT format('the trigger %s on %s is missing, changed or not enabled always', w.name,
                  w.target)
      FROM wanted AS w WHERE NOT w.stands
    UNION ALL
    SELECT u.fault FROM ni.night_unfit_v1() AS u
    UNION ALL
    SELECT c.fault FROM ni.night_ground_changes_v1() AS c WHERE NOT c.mends;
END
$$;

-- Whether the copy is what the core is: no note, triggers that would have made one, and the ground
-- on which they stood all the time. Asked live, never stored. Its time grows with the number of
-- relations and partitions: too long for the gate.
CREATE OR REPLACE FUNCTION ni.night_copy_is_exact_v1() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ni.noted_buckets_v1() = '{}'
       AND NOT EXISTS (SELECT FROM ni.night_copy_faults_v1())
       AND NOT EXISTS (SELECT FROM ni.night_ground_changes_v1());
END
$$;

-- The same for whoever closes the day: null, or a mark with which to ask under the gate whether it
-- is so still. The mark is taken first, so that what changes meanwhile is another mark.
CREATE OR REPLACE FUNCTION ni.exact_copy_mark_v1() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_mark text := ni.night_mark_v1();
BEGIN
    RETURN CASE WHEN ni.night_copy_is_exact_v1() THEN v_mark END;
END
$$;

-- For whoever shows it. Keys are counted up to a limit; where everything is noted, as many as the
-- server believes the copy to have.
CREATE OR REPLACE FUNCTION ni.night_copy_status_v1(
    OUT exact boolean, OUT changed_keys bigint, OUT copied_at timestamptz
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    v_limit bigint := 100000;
BEGIN
    exact := ni.night_copy_is_exact_v1();
    SELECT least(v_limit, coalesce(sum(
               CASE WHEN c.side IS NULL THEN 1
                    ELSE (SELECT greatest(k.reltuples, 1)::bigint FROM pg_class AS k
                           WHERE k.oid = format('night.%I', c.relation)::regclass) END), 0))
      INTO changed_keys
      FROM (SELECT t.side, t.relation
              FROM unnest(ni.buckets_v1()) AS b (bucket)
             CROSS JOIN LATERAL (
                SELECT n.side, n.relation FROM night.changed AS n
                 WHERE n.bucket = b.bucket
                   AND n.note_id > (SELECT f.settled FROM ni.night_copy AS f)
                 ORDER BY n.note_id LIMIT v_limit) AS t
             LIMIT v_limit) AS c;
    SELECT n.copied_at INTO copied_at FROM ni.night_copy AS n;
END
$$;

-- Copies keys of one relation again, in one bucket; returns those that nobody held.
CREATE OR REPLACE FUNCTION ni.resync_keys_v1(p_relation text, p_bucket smallint, p_keys text[])
RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_got text[];
BEGIN
    IF p_relation = 'account' THEN
        v_got := night.resync_account(p_bucket, p_keys);
        PERFORM ni.note_below_limit_v1(p_bucket, v_got);
    ELSIF p_relation = 'block' THEN
        v_got := night.resync_block(p_bucket, p_keys);
    ELSE
        v_got := night.resync_ledger(p_bucket, p_keys);
    END IF;
    RETURN v_got;
END
$$;

-- A range of keys where core and copy differ. STABLE on purpose: it sees the snapshot of the
-- statement that calls it.
CREATE OR REPLACE FUNCTION ni.compare_keys_v1(
    p_relation text, p_side text, p_bucket smallint, p_after text, p_limit integer,
    OUT o_rows integer, OUT o_after text, OUT o_buckets smallint[], OUT o_keys text[]
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_relation = 'account' THEN
        SELECT * INTO o_rows, o_after, o_buckets, o_keys
          FROM night.compare_account(p_side, p_bucket, p_after, p_limit);
    ELSIF p_relation = 'block' THEN
        SELECT * INTO o_rows, o_after, o_buckets, o_keys
          FROM night.compare_block(p_side, p_bucket, p_after, p_limit);
    ELSE
        SELECT * INTO o_rows, o_after, o_buckets, o_keys
          FROM night.compare_ledger(p_side, p_bucket, p_after, p_limit);
    END IF;
END
$$;

-- The next keys of a note of everything. What does not differ in one snapshot needs no copying:
-- from there on it is kept, or noted, like any other key. A key that somebody holds gets a note of
-- its own. The note remembers how far it has come, so that a killed walk goes on from there.
CREATE OR REPLACE FUNCTION ni.walk_note_v1(
    p_bucket smallint, p_note bigint, p_limit integer, OUT o_keys integer, OUT o_ended boolean
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    v_note  night.changed;
    v_range record;
    v_part  record;
    v_got   text[];
BEGIN
    SELECT * INTO v_note FROM night.changed AS c
     WHERE c.bucket = p_bucket AND c.note_id = p_note FOR UPDATE SKIP LOCKED;
    o_keys := 0;
    o_ended := NOT FOUND;
    IF o_ended THEN
        RETURN;
    END IF;
    SELECT * INTO v_range
      FROM ni.compare_keys_v1(v_note.relation, v_note.side, p_bucket, v_note.key, p_limit);
    FOR v_part IN
        SELECT d.bucket, array_agg(d.key) AS keys
          FROM unnest(v_range.o_buckets, v_range.o_keys) AS d (bucket, key) GROUP BY d.bucket
    LOOP
        v_got := ni.resync_keys_v1(v_note.relation, v_part.bucket, v_part.keys);
        INSERT INTO night.changed (bucket, relation, key)
            SELECT v_part.bucket, v_note.relation, k.key
              FROM (SELECT unnest(v_part.keys) EXCEPT SELECT unnest(v_got)) AS k (key);
    END LOOP;
    o_keys := v_range.o_rows;
    o_ended := v_range.o_after IS NULL;
    IF o_ended THEN
        DELETE FROM night.changed AS c WHERE c.bucket = p_bucket AND c.note_id = p_note;
    ELSE
        UPDATE night.changed AS c SET key = v_range.o_after
         WHERE c.bucket = p_bucket AND c.note_id = p_note;
    END IF;
END
$$;

-- One chunk of one bucket, from the notes after p_after on. o_last: where to go on; null when there
-- is nothing more. By night it does nothing.
CREATE OR REPLACE FUNCTION ni.resync_night_copy_v1(
    p_bucket smallint, p_after bigint, p_limit integer,
    OUT o_mode text, OUT o_last bigint, OUT o_keys integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_nestloop = off SET enable_mergejoin = off SET enable_hashjoin = on SET jit = off
AS $$
DECLARE
    v_notes night.changed[];
    v_part  record;
    v_got   text[];
    v_count integer;
    v_ended boolean;
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode INTO o_mode FROM ni.mode AS m WHERE m.one;
    o_keys := 0;
    IF o_mode <> 'day' THEN
        RETURN;
    END IF;
    v_notes := ARRAY(
        SELECT c FROM night.changed AS c
         WHERE c.bucket = p_bucket
           AND c.note_id > greatest(p_after, (SELECT n.settled FROM ni.night_copy AS n))
         ORDER BY c.note_id LIMIT p_limit);
    IF (v_notes[1]).side IS NOT NULL THEN
        SELECT w.o_keys, w.o_ended INTO o_keys, v_ended
          FROM ni.walk_note_v1(p_bucket, (v_notes[1]).note_id, p_limit) AS w;
        o_last := CASE WHEN v_ended THEN (v_notes[1]).note_id ELSE p_after END;
        RETURN;
    END IF;
    -- Up to the first note of everything: that one has a turn of its own.
    SELECT coalesce(min(n.place) - 1, cardinality(v_notes)) INTO v_count
      FROM unnest(v_notes) WITH ORDINALITY AS n (bucket, note_id, relation, side, key, place)
     WHERE n.side IS NOT NULL;
    v_notes := v_notes[1:v_count];
    o_last := (v_notes[cardinality(v_notes)]).note_id;
    FOR v_part IN
        SELECT n.relation, array_agg(DISTINCT n.key) AS keys FROM unnest(v_notes) AS n
         GROUP BY n.relation
    LOOP
        v_got := ni.resync_keys_v1(v_part.relation, p_bucket, v_part.keys);
        o_keys := o_keys + cardinality(v_got);
        DELETE FROM night.changed AS c
         WHERE c.bucket = p_bucket
           AND c.note_id = ANY (ARRAY(
               SELECT n.note_id FROM unnest(v_notes) AS n
                 JOIN unnest(v_got) AS g (key) ON g.key = n.key
                WHERE n.relation = v_part.relation));
    END LOOP;
END
$$;

-- Raises the floor to where no note is and none can come: an id is taken by a statement that holds
-- its lock on night.changed until its transaction ends. So: the newest id first, then who holds
-- that lock, then, in a later snapshot, the notes. Returns whether none is left.
CREATE OR REPLACE FUNCTION ni.settle_night_copy_v1(p_worked boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    v_newest bigint;
    v_busy   boolean;
    v_oldest bigint;
BEGIN
    v_newest := coalesce(pg_sequence_last_value('night.changed_note_id_seq'), 0);
    v_busy := EXISTS (
        SELECT FROM pg_locks AS l
         WHERE l.locktype = 'relation' AND l.relation = 'night.changed'::regclass
           AND l.database = (SELECT d.oid FROM pg_database AS d
                              WHERE d.datname = current_database())
           AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
           AND l.pid IS DISTINCT FROM pg_backend_pid());
    SELECT min(t.note_id) INTO v_oldest
      FROM unnest(ni.buckets_v1()) AS b (bucket)
     CROSS JOIN LATERAL (
        SELECT c.note_id FROM night.changed AS c
         WHERE c.bucket = b.bucket AND c.note_id > (SELECT n.settled FROM ni.night_copy AS n)
         ORDER BY c.note_id LIMIT 1) AS t;
    UPDATE ni.night_copy AS n
       SET settled = CASE WHEN v_busy THEN n.settled
                        ELSE greatest(n.settled, least(v_newest, v_oldest - 1)) END,
           copied_at = CASE WHEN p_worked AND v_oldest IS NULL THEN ni.clock()
                            ELSE n.copied_at END
     WHERE p_worked AND v_oldest IS NULL
        OR NOT v_busy AND least(v_newest, v_oldest - 1) > n.settled;
    RETURN v_oldest IS NULL;
END
$$;

-- The same for whoever watches the copy: keys that differ without a note, told and, if wished,
-- noted. The notes are read in the snapshot of the comparison. By night it does nothing.
CREATE OR REPLACE FUNCTION ni.check_night_copy_v1(
    p_relation text, p_side text, p_bucket smallint, p_after text, p_limit integer,
    p_note boolean, OUT o_mode text, OUT o_rows integer, OUT o_after text, OUT o_keys text[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    v_buckets smallint[];
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode INTO o_mode FROM ni.mode AS m WHERE m.one;
    IF o_mode <> 'day' THEN
        RETURN;
    END IF;
    SELECT r.o_rows, r.o_after, d.buckets, coalesce(d.keys, '{}')
      INTO o_rows, o_after, v_buckets, o_keys
      FROM ni.compare_keys_v1(p_relation, p_side, p_bucket, p_after, p_limit) AS r
     CROSS JOIN LATERAL (
        SELECT array_agg(u.bucket) AS buckets, array_agg(u.key) AS keys
          FROM unnest(r.o_buckets, r.o_keys) AS u (bucket, key)
         WHERE NOT EXISTS (SELECT FROM night.changed AS c
                            WHERE c.relation = p_relation
                              AND (c.side IS NOT NULL
                                   OR c.bucket = u.bucket AND c.key = u.key))) AS d;
    IF p_note THEN
        INSERT INTO night.changed (bucket, relation, key)
            SELECT d.bucket, p_relation, d.key FROM unnest(v_buckets, o_keys) AS d (bucket, key);
    END IF;
END
$$;

-- About how many keys a full copy looks at, on both sides.
CREATE OR REPLACE FUNCTION ni.night_copy_size_v1() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
              FROM ni.night_source AS s
              JOIN pg_class AS c ON c.oid IN (to_regclass(s.source),
                                              to_regclass(format('night.%I', s.relation))));
END
$$;

-- A full copy: everything is noted. Returns the mode; by night nothing is done.
CREATE OR REPLACE FUNCTION ni.rebuild_night_copy_v1() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_mode text;
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode INTO v_mode FROM ni.mode AS m WHERE m.one;
    IF v_mode = 'day' THEN
        PERFORM ni.note_all_v1(s.relation) FROM ni.night_source AS s;
    END IF;
    RETURN v_mode;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.note_all_v1, ni.note_everything, ni.noted_buckets_v1, ni.night_copy_faults_v1,
    ni.night_copy_is_exact_v1, ni.exact_copy_mark_v1, ni.night_copy_status_v1, ni.resync_keys_v1,
    ni.compare_keys_v1, ni.walk_note_v1, ni.resync_night_copy_v1, ni.settle_night_copy_v1,
    ni.check_night_copy_v1, ni.night_copy_size_v1, ni.rebuild_night_copy_v1 FROM public;
GRANT EXECUTE ON FUNCTION
    ni.noted_buckets_v1, ni.night_copy_faults_v1, ni.night_copy_is_exact_v1,
    ni.exact_copy_mark_v1, ni.night_copy_status_v1, ni.resync_night_copy_v1,
    ni.settle_night_copy_v1, ni.check_night_copy_v1, ni.night_copy_size_v1,
    ni.rebuild_night_copy_v1 TO ni_engine;
