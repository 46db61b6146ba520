-- How many unloads stand still now: for a lock, or asking again and again for one.
select count(*)
from pg_stat_activity
where datname = current_database() and application_name = 'ni unload' and state = 'active'
      and (wait_event_type = 'Lock' or wait_event = 'PgSleep');
