-- Blocks an account from $4 (now when null) to $5 (without end when null).
INSERT INTO core.block (account, side, legal_reference, valid_from, valid_to)
VALUES ($1, $2, $3, coalesce($4, ni.clock()), $5) RETURNING block_id;
