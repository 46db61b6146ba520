-- The triggers that keep the night copy: which must stand, and how they are made.

-- The triggers that must stand, on each relation and on each of its partitions. They are looked for
-- by index whatever their number was when a session asked first: the plan is kept.
CREATE OR REPLACE FUNCTION ni.night_triggers_v1()
RETURNS TABLE (relation text, root regclass, target regclass, name text, event text, stands boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE wanted (relation, root, oid, is_lookup) AS (
        SELECT s.relation, o.root, o.root, o.is_lookup
          FROM ni.night_source AS s
         CROSS JOIN LATERAL (
            SELECT to_regclass(s.source)::oid AS root, false AS is_lookup
            UNION ALL SELECT to_regclass(l.name)::oid, true FROM unnest(s.lookups) AS l (name)) AS o
         WHERE o.root IS NOT NULL
        UNION
        SELECT w.relation, w.root, i.inhrelid, w.is_lookup
          FROM wanted AS w JOIN pg_inherits AS i ON i.inhparent = w.oid
    ), called AS MATERIALIZED (
        SELECT n.name, p.oid, p.prosecdef AND p.proowner = 'ni_owner'::regrole AS is_ours
          FROM (SELECT format('night.follow_%I()', s.relation) FROM ni.night_source AS s
                UNION ALL SELECT 'ni.note_everything()') AS n (name)
          JOIN pg_proc AS p ON p.oid = to_regprocedure(n.name)
    ), trigger_wanted AS (
        SELECT w.relation, w.root::regclass, w.oid::regclass AS target, e.bits, e.event,
               format('night_copy_%s_%s', w.relation, e.event) AS name,
               (SELECT f.oid FROM called AS f
                 WHERE f.is_ours
                   AND f.name = CASE WHEN w.is_lookup OR e.event = 'truncate'
                                     THEN 'ni.note_everything()'
                                     ELSE format('night.follow_%I()', w.relation) END) AS called,
               CASE WHEN w.is_lookup OR e.event = 'truncate'
                    THEN convert_to(w.relation, 'UTF8') || '\x00'::bytea
                    ELSE ''::bytea END AS arguments,
               CASE WHEN NOT w.is_lookup AND e.event IN ('insert', 'update')
                    THEN 'new_rows' END AS new_rows,
               CASE WHEN NOT w.is_lookup AND e.event IN ('delete', 'update')
                    THEN 'old_rows' END AS old_rows
          FROM wanted AS w
         CROSS JOIN (VALUES (4, 'insert'), (8, 'delete'), (16, 'update'), (32, 'truncate'))
               AS e (bits, event)
    )
    SELECT w.relation, w.root, w.target, w.name, w.event,
           EXISTS (SELECT FROM pg_trigger AS t
                    WHERE t.tgrelid = w.target AND t.tgname = w.name AND t.tgenabled = 'A'
                      AND t.tgtype = w.bits AND t.tgfoid = w.called AND t.tgargs = w.arguments
                      AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
                      AND t.tgnewtable IS NOT DISTINCT FROM w.new_rows
                      AND t.tgoldtable IS NOT DISTINCT FROM w.old_rows)
      FROM trigger_wanted AS w;
END
$$;

-- Makes the functions and triggers of ni.night_source, as the owner of the core's relations who is
-- also a member of ni_owner. Repeating it is harmless: what stands stays untouched, so that the
-- core is not locked. Where a trigger had to be made, the copy is emptied and everything noted, so
-- do it by day; where something else has changed, everything is noted; triggers on relations that
-- are followed no longer go. Returns what was made.
CREATE OR REPLACE FUNCTION ni.install_night_copy_v1() RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_relation text;
    v_function regprocedure;
    v_missing  record;
BEGIN
    FOR v_relation IN SELECT s.relation FROM ni.night_source AS s ORDER BY s.relation LOOP
        EXECUTE ni.night_place_text_v1(v_relation);
        EXECUTE ni.night_resync_text_v1(v_relation);
        EXECUTE ni.night_compare_text_v1(v_relation);
        EXECUTE ni.night_follow_text_v1(v_relation);
        FOR v_function IN
            SELECT p.oid FROM pg_proc AS p
             WHERE p.pronamespace = 'night'::regnamespace AND p.proname LIKE '%\_' || v_relation
        LOOP
            EXECUTE format('ALTER FUNCTION %s OWNER TO ni_owner', v_function);
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM public', v_function);
        END LOOP;
        PERFORM ni.expect_day_v1(v_relation);
        FOR v_missing IN
            SELECT * FROM ni.night_triggers_v1() AS t
             WHERE t.relation = v_relation AND NOT t.stands
        LOOP
            PERFORM ni.make_night_trigger_v1(v_missing.target, v_missing.name);
            RETURN NEXT format('%s on %s', v_missing.name, v_missing.target);
        END LOOP;
        PERFORM ni.note_installed_v1(v_relation, FOUND);
    END LOOP;
    FOR v_missing IN
        SELECT t.tgname AS name, t.tgrelid::regclass AS target FROM pg_trigger AS t
         WHERE t.tgname LIKE 'night\_copy\_%'
           AND NOT EXISTS (SELECT FROM ni.night_triggers_v1() AS w
                            WHERE w.target = t.tgrelid AND w.name = t.tgname)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', v_missing.name, v_missing.target);
    END LOOP;
END
$$;

-- What a relation's installation leaves to be copied, and what is kept of its ground. p_made: a
-- trigger was missing.
CREATE OR REPLACE FUNCTION ni.note_installed_v1(p_relation text, p_made boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_filled boolean;
BEGIN
    IF p_made THEN
        PERFORM ni.hold_day_v1();
        -- After the triggers, which have waited for whoever was writing. What is here may be of
        -- another relation, with keys of another type.
        EXECUTE format('DELETE FROM night.%I', p_relation);
        DELETE FROM night.changed AS c WHERE c.relation = p_relation;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)',
                       (SELECT s.source FROM ni.night_source AS s
                         WHERE s.relation = p_relation)) INTO v_filled;
    END IF;
    IF v_filled OR NOT p_made AND EXISTS (SELECT FROM ni.night_ground_changes_v1() AS c
                                           WHERE c.relation = p_relation) THEN
        PERFORM ni.note_all_v1(p_relation);
    END IF;
    PERFORM ni.keep_night_ground_v1(p_relation);
END
$$;

-- Refuses to make triggers by night, when decisions read the copy and the core may not be touched.
CREATE OR REPLACE FUNCTION ni.expect_day_v1(p_relation text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM ni.night_triggers_v1() AS t
                WHERE t.relation = p_relation AND NOT t.stands) THEN
        PERFORM ni.hold_day_v1();
    END IF;
END
$$;

-- Keeps it day until the transaction ends, or refuses. A trigger that went after expect_day_v1 has
-- looked is made too: so whoever empties the copy asks himself.
CREATE OR REPLACE FUNCTION ni.hold_day_v1() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m) THEN
        RAISE EXCEPTION 'triggers of the night copy are made by day'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION ni.make_night_trigger_v1(p_target regclass, p_name text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_relation text := split_part(p_name, '_', 3);
    v_event    text := split_part(p_name, '_', 4);
    v_follows  boolean := v_event <> 'truncate' AND p_target NOT IN (
        SELECT to_regclass(l.name) FROM ni.night_source AS s, unnest(s.lookups) AS l (name)
         WHERE s.relation = v_relation);
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
        p_name, v_event, p_target,
        CASE WHEN NOT v_follows THEN ''
             WHEN v_event = 'insert' THEN 'REFERENCING NEW TABLE AS new_rows'
             WHEN v_event = 'delete' THEN 'REFERENCING OLD TABLE AS old_rows'
             ELSE 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows' END,
        CASE WHEN v_follows THEN format('night.follow_%I()', v_relation)
             ELSE format('ni.note_everything(%L)', v_relation) END);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', p_target, p_name);
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.night_triggers_v1, ni.install_night_copy_v1, ni.note_installed_v1, ni.expect_day_v1,
    ni.hold_day_v1, ni.make_night_trigger_v1 FROM public;

SELECT ni.install_night_copy_v1();
