-- What sessions that decide or read wait for at this moment, where an unload holds it: the lock,
-- and what it is on. Nothing when none waits.
WITH waiting AS MATERIALIZED (
    SELECT pid, locktype, relation, mode FROM pg_locks WHERE NOT granted
)
SELECT concat_ws(' ', waiting.locktype, waiting.relation::regclass, waiting.mode)
  FROM waiting
  JOIN pg_stat_activity AS decision ON decision.pid = waiting.pid
 WHERE decision.application_name IN ('ni day', 'ni night')
   AND EXISTS (SELECT FROM pg_stat_activity AS unload
                WHERE unload.application_name = 'ni unload'
                  AND unload.pid = ANY (pg_blocking_pids(waiting.pid)));
