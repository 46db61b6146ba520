-- Every table of the core.
select oid::regclass::text from pg_class
where relnamespace = 'core'::regnamespace and relkind in ('r', 'p')
order by oid;
