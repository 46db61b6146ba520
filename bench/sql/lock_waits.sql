-- How many sessions that decide or read wait at this moment for a lock that an unload holds.
WITH waiting AS MATERIALIZED (
    SELECT DISTINCT pid FROM pg_locks WHERE NOT granted
)
SELECT count(*)
  FROM waiting
  JOIN pg_stat_activity AS decision ON decision.pid = waiting.pid
 WHERE decision.application_name IN ('ni day', 'ni night')
   AND EXISTS (SELECT FROM pg_stat_activity AS unload
                WHERE unload.application_name = 'ni unload'
                  AND unload.pid = ANY (pg_blocking_pids(waiting.pid)));
