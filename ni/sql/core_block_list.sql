-- The blocks of an account, also those that have ended.
SELECT block_id, side, legal_reference, valid_from, valid_to
FROM core.block WHERE account = $1 ORDER BY valid_from, block_id LIMIT 1000;
