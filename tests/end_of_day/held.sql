-- The core's tables that the sessions of its own role hold for themselves.
SELECT c.relname::text AS name
  FROM pg_locks AS l
  JOIN pg_class AS c ON c.oid = l.relation
  JOIN pg_stat_activity AS s ON s.pid = l.pid
 WHERE c.relnamespace = 'core'::regnamespace AND c.relkind = 'r' AND l.granted
   AND l.mode = 'AccessExclusiveLock' AND s.usename = 'ni_core'
   AND s.datname = current_database();
