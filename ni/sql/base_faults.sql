-- What of the base's views would read from another snapshot than NI's own tables: functions that
-- are VOLATILE, and relations that are not plain tables or views. Reads catalogues alone, so it
-- waits for nobody, by night neither.
WITH RECURSIVE relation (oid) AS (
    SELECT c.oid
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname IN ('day_alias', 'night_alias')
    UNION
    SELECT d.refobjid
      FROM relation AS r
      JOIN pg_rewrite AS w ON w.ev_class = r.oid
      JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.oid
), called (oid) AS (
    SELECT m.found[1]::oid
      FROM relation AS r
      JOIN pg_rewrite AS w ON w.ev_class = r.oid
     CROSS JOIN LATERAL regexp_matches(w.ev_action::text, ':(?:op)?funcid ([0-9]+)', 'g')
           AS m (found)
)
SELECT format('the relation %s is not a plain table or view', c.oid::regclass) AS fault
  FROM relation AS r
  JOIN pg_class AS c ON c.oid = r.oid
 WHERE c.relkind NOT IN ('r', 'p', 'v')
UNION
SELECT format('the function %s is volatile', p.oid::regprocedure)
  FROM called AS f
  JOIN pg_proc AS p ON p.oid = f.oid
 WHERE p.provolatile = 'v'
UNION
SELECT format('%s must be VOLATILE PL/pgSQL', p.oid::regprocedure)
  FROM pg_proc AS p
  JOIN pg_language AS l ON l.oid = p.prolang
 WHERE p.pronamespace = 'ni'::regnamespace
   AND p.proname ~ '^(lock|figures|write|balance|account_kind)_'
   AND (p.provolatile <> 'v' OR l.lanname <> 'plpgsql')
UNION
SELECT format('the view %s.%s is missing', s.name, v.name)
  FROM (VALUES ('day_alias'), ('night_alias')) AS s (name)
 CROSS JOIN (VALUES ('account'), ('block'), ('ledger')) AS v (name)
 WHERE to_regclass(format('%I.%I', s.name, v.name)) IS NULL
 ORDER BY fault;
