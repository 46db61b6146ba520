-- Every function of NI, the core and the night copy.
select distinct n.nspname || '.' || p.proname as name
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('ni', 'core', 'night', 'day_alias', 'night_alias');
