-- What this session has locked of the core, of the day's aliases, and of what stands behind them.
SELECT c.oid::regclass::text AS relation
  FROM pg_locks AS l
  JOIN pg_class AS c ON c.oid = l.relation
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE l.pid = pg_backend_pid() AND l.granted
   AND (n.nspname IN ('core', 'day_alias')
        OR c.oid IN (SELECT d.refobjid
                       FROM pg_class AS v
                       JOIN pg_rewrite AS w ON w.ev_class = v.oid
                       JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass
                                          AND d.objid = w.oid
                                          AND d.refclassid = 'pg_class'::regclass
                      WHERE v.relnamespace = 'day_alias'::regnamespace))
 ORDER BY 1
 LIMIT 1;
