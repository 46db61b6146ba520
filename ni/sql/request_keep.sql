-- Keeps the answer to a client's key of a command without an account.
INSERT INTO ni.request (bucket, client, key, fingerprint, decision, document, decided_at)
VALUES (0, $1, $2, $3, $4, $5, ni.clock());
