-- Every function of NI and the core; those of the night copy are generated.
select distinct n.nspname || '.' || p.proname as name
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('ni', 'core', 'day_alias', 'night_alias');
