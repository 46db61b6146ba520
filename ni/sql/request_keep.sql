-- Keeps the answer to a client's key of a command without an account; null when another command has
-- kept one under it meanwhile.
INSERT INTO ni.request (bucket, client, key, fingerprint, decision, document, decided_at)
VALUES (0, $1, $2, $3, $4, $5, ni.clock())
ON CONFLICT DO NOTHING
RETURNING true;
