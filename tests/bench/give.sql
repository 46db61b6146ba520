-- Ends the transaction that `take` has begun.
COMMIT;
