-- What the night copy stands on: the relations that are followed, and the views of the day. A
-- trigger tells what is done to its relation while it fires, and nothing of what happens to itself,
-- to a partition that goes with its rows, or to a table that is emptied by a crash. So
-- ni.night_followed keeps how all of it was seen when everything was noted last: while it is seen
-- otherwise the copy is not exact. Catalogues alone are read, and they wait for nobody.

-- What is there now, with marks that any change of it changes: of a relation its file, its place
-- under its parent and its triggers; of a view its definition, the columns' names and the list from
-- which the copy is made, for the two must say the same.
CREATE OR REPLACE FUNCTION ni.night_ground_v1()
RETURNS TABLE (relation text, target oid, name text, is_view boolean, seen text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    SELECT t.relation, c.oid, t.target::text, false,
           concat_ws('/', c.relfilenode, c.relpersistence,
                     (SELECT string_agg(i.inhparent || ':' || i.xmin, ',' ORDER BY i.inhparent)
                        FROM pg_inherits AS i WHERE i.inhrelid = c.oid),
                     string_agg(g.oid || ':' || g.xmin, ',' ORDER BY g.tgname))
      FROM ni.night_triggers_v1() AS t
      JOIN pg_class AS c ON c.oid = t.target
      LEFT JOIN pg_trigger AS g ON g.tgrelid = t.target AND g.tgname = t.name
     GROUP BY t.relation, c.oid, t.target, c.relfilenode, c.relpersistence
    UNION ALL
    SELECT s.relation, v.oid, v.oid::regclass::text, true,
           concat_ws('/', w.xmin, md5(s::text),
                     (SELECT string_agg(a.attname, ',' ORDER BY a.attrelid, a.attnum)
                        FROM pg_depend AS d
                        JOIN pg_attribute AS a ON a.attrelid = d.refobjid
                                              AND a.attnum = d.refobjsubid
                       WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                         AND d.refobjid <> v.oid))
      FROM ni.night_source AS s
      JOIN ni.night_views_v1() AS b ON b.relation = s.relation
      JOIN pg_class AS v ON v.oid = b.oid AND v.relkind = 'v'
      JOIN pg_rewrite AS w ON w.ev_class = v.oid;
END
$$;

-- Each view of the day, under its name, with all views and relations behind it.
CREATE OR REPLACE FUNCTION ni.night_views_v1() RETURNS TABLE (relation text, oid oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE behind (relation, oid) AS (
        SELECT v.relname::text, v.oid FROM pg_class AS v
         WHERE v.relnamespace = 'day_alias'::regnamespace
        UNION
        SELECT b.relation, d.refobjid
          FROM behind AS b
          JOIN pg_rewrite AS w ON w.ev_class = b.oid
          JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                             AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> b.oid
    )
    SELECT b.relation, b.oid FROM behind AS b;
END
$$;

-- What is seen otherwise than when everything was noted last. `mends`: comparing everything again
-- is enough; else the owner of the relations has to look.
CREATE OR REPLACE FUNCTION ni.night_ground_changes_v1()
RETURNS TABLE (relation text, mends boolean, fault text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT coalesce(g.relation, f.relation), k.mends,
           CASE WHEN g.is_view THEN
                    format('%s, or its row of ni.night_source, is another one than the copy was '
                           'made for', g.name)
                WHEN NOT k.mends THEN
                    format('%s was followed and is no part of %s any more', f.name,
                           (SELECT s.source FROM ni.night_source AS s
                             WHERE s.relation = f.relation))
                ELSE format('%s has changed under its triggers', coalesce(g.name, f.name)) END
      FROM ni.night_ground_v1() AS g
      FULL JOIN ni.night_followed AS f ON f.relation = g.relation AND f.target = g.target
     CROSS JOIN LATERAL (
        SELECT CASE WHEN g.target IS NULL
                    THEN NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = f.target)
                    ELSE NOT g.is_view END AS mends) AS k
     WHERE g.seen IS DISTINCT FROM f.seen;
END
$$;

-- A mark of all in the catalogue from which it follows whether triggers and ground are as they must
-- be: ni.night_source and what its names are now, the functions of the triggers, the views of the
-- day and what they read, each relation that is followed with its triggers, parents and
-- subscriptions, and what is kept of the ground. The version of a row stands for what it says: an
-- equal mark means that nothing was changed, nor changed and put back. Whoever adds a question to
-- ni.night_copy_faults_v1 or ni.night_ground_v1 adds here what it reads. One pass by index, for it
-- is taken under the gate.
CREATE OR REPLACE FUNCTION ni.night_mark_v1() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
BEGIN
    RETURN (
        WITH RECURSIVE named AS MATERIALIZED (
            SELECT s.relation, n.name, to_regclass(n.name)::oid AS oid
              FROM ni.night_source AS s CROSS JOIN unnest(s.source || s.lookups) AS n (name)
        ), followed (oid) AS (
            SELECT n.oid FROM named AS n WHERE n.oid IS NOT NULL
            UNION
            SELECT i.inhrelid FROM followed AS f JOIN pg_inherits AS i ON i.inhparent = f.oid
        ), mark (text) AS (
            SELECT concat_ws('/', 'source', s::text, p.oid, p.xmin, e.oid, e.xmin,
                             to_regrole('ni_owner')::oid)
              FROM ni.night_source AS s
              LEFT JOIN pg_proc AS p
                ON p.oid = to_regprocedure(format('night.follow_%I()', s.relation))
              LEFT JOIN pg_proc AS e ON e.oid = to_regprocedure('ni.note_everything()')
            UNION ALL
            SELECT concat_ws('/', 'named', n.relation, n.name, n.oid) FROM named AS n
            UNION ALL
            SELECT concat_ws('/', 'followed', f.oid, c.xmin, c.relfilenode, c.relpersistence,
                (SELECT string_agg(i.inhparent || ':' || i.xmin, ',' ORDER BY i.inhparent)
                   FROM pg_inherits AS i WHERE i.inhrelid = f.oid),
                'triggers',
                (SELECT string_agg(t.oid || ':' || t.xmin, ',' ORDER BY t.oid)
                   FROM pg_trigger AS t WHERE t.tgrelid = f.oid),
                'subscriptions',
                (SELECT string_agg(s.srsubid || ':' || s.xmin, ',' ORDER BY s.srsubid)
                   FROM pg_subscription_rel AS s WHERE s.srrelid = f.oid))
              FROM followed AS f LEFT JOIN pg_class AS c ON c.oid = f.oid
            UNION ALL
            SELECT concat_ws('/', 'view', b.relation, b.oid, c.relkind, w.oid, w.xmin,
                (SELECT string_agg(format('%s:%s:%s', a.attrelid, a.attnum, a.attname), ','
                                   ORDER BY a.attrelid, a.attnum)
                   FROM pg_depend AS d
                   JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                  WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0))
              FROM ni.night_views_v1() AS b
              LEFT JOIN pg_class AS c ON c.oid = b.oid
              LEFT JOIN pg_rewrite AS w ON w.ev_class = b.oid
            UNION ALL
            SELECT concat_ws('/', 'kept', f.relation, f.target, f.seen) FROM ni.night_followed AS f
        )
        SELECT md5(string_agg(m.text, chr(10) ORDER BY m.text COLLATE "C")) FROM mark AS m);
END
$$;

-- Relations on which triggers are of no use: a crash empties an unlogged one unseen, and what a
-- subscription applies fires no trigger of a statement.
CREATE OR REPLACE FUNCTION ni.night_unfit_v1() RETURNS TABLE (relation text, fault text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT t.relation, format('%s %s', t.target, u.why)
      FROM ni.night_triggers_v1() AS t
      JOIN pg_class AS c ON c.oid = t.target
     CROSS JOIN LATERAL (
        SELECT 'is unlogged: a crash would empty it unseen' AS why WHERE c.relpersistence <> 'p'
        UNION ALL
        SELECT 'is written by a subscription, which fires no trigger of a statement'
         WHERE EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = c.oid)) AS u;
END
$$;

-- Keeps how a relation's ground is seen now.
CREATE OR REPLACE FUNCTION ni.keep_night_ground_v1(p_relation text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM ni.night_followed AS f WHERE f.relation = p_relation;
    INSERT INTO ni.night_followed (relation, target, name, seen)
        SELECT g.relation, g.target, g.name, g.seen FROM ni.night_ground_v1() AS g
         WHERE g.relation = p_relation;
END
$$;

-- Where the ground has changed and nobody needs to look: notes everything of the relation and keeps
-- what is seen now. Whatever was missed before this snapshot is found by the walk, which comes
-- later; whatever changes after it is seen next time. Notes may be made by night too. Returns the
-- relations that were noted.
CREATE OR REPLACE FUNCTION ni.renew_night_ground_v1() RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_changed  text[] := '{}';
    v_relation text;
BEGIN
    IF NOT EXISTS (SELECT FROM ni.night_ground_changes_v1()) THEN
        RETURN v_changed;
    END IF;
    PERFORM FROM ni.night_copy AS n WHERE n.one FOR UPDATE;
    FOR v_relation IN
        SELECT c.relation FROM ni.night_ground_changes_v1() AS c
         WHERE NOT EXISTS (SELECT FROM ni.night_triggers_v1() AS t
                            WHERE t.relation = c.relation AND NOT t.stands)
           AND NOT EXISTS (SELECT FROM ni.night_unfit_v1() AS u WHERE u.relation = c.relation)
         GROUP BY c.relation HAVING bool_and(c.mends) ORDER BY c.relation
    LOOP
        PERFORM ni.note_all_v1(v_relation);
        PERFORM ni.keep_night_ground_v1(v_relation);
        v_changed := v_changed || v_relation;
    END LOOP;
    RETURN v_changed;
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.night_ground_v1, ni.night_views_v1, ni.night_ground_changes_v1, ni.night_mark_v1,
    ni.night_unfit_v1, ni.keep_night_ground_v1, ni.renew_night_ground_v1 FROM public;
GRANT EXECUTE ON FUNCTION ni.renew_night_ground_v1 TO ni_engine;
