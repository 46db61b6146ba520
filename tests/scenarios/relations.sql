-- Every table and view of NI, the core, the night copy and the aliases.
select n.nspname || '.' || c.relname as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('ni', 'core', 'night', 'day_alias', 'night_alias')
      and c.relkind in ('r', 'p', 'v', 'm', 'f');
