-- The notes as they were.
DROP INDEX IF EXISTS night.bench_changed_key;
