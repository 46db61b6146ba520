-- Every table of the core.
SELECT c.relname::text AS name
  FROM pg_class AS c
 WHERE c.relnamespace = 'core'::regnamespace AND c.relkind IN ('r', 'p');
