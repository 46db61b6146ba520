-- How many events wait.
SELECT count(*) FROM ni.outbox
