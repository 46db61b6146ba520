-- The decisions that wait at this moment for a session that unloads.
select d.pid, d.query
from pg_stat_activity d
cross join lateral unnest(pg_blocking_pids(d.pid)) as blocker (pid)
join pg_stat_activity u on u.pid = blocker.pid
where d.datname = current_database() and d.wait_event_type = 'Lock'
      and d.application_name in ('ni day', 'ni night') and u.application_name = 'ni unload';
