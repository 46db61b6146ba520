-- Locks of NI's sessions on anything of the core or on the day's aliases, had or waited for.
select c.oid::regclass::text as relation, a.query
from pg_locks as l
join pg_class as c on c.oid = l.relation
join pg_stat_activity as a on a.pid = l.pid
where l.database = (select oid from pg_database where datname = current_database())
      and a.usename = 'ni_engine'
      and c.relnamespace in ('core'::regnamespace, 'day_alias'::regnamespace);
