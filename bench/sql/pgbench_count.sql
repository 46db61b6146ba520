-- How many debits pgbench has really made.
SELECT count(*) FROM bench.posting;
