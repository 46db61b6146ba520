-- The locks that NI's sessions have, or wait for, on anything of the core or on the day's aliases.
SELECT concat_ws(' ', held.locktype, relation.oid::regclass, held.mode)
  FROM pg_locks AS held
  JOIN pg_class AS relation ON relation.oid = held.relation
  JOIN pg_stat_activity AS session ON session.pid = held.pid
 WHERE held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND session.usename = 'ni_engine'
   AND relation.relnamespace IN ('core'::regnamespace, 'day_alias'::regnamespace);
