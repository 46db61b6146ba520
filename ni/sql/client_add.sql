-- Adds a client; no row when the name is taken.
INSERT INTO ni.client (client, key_hash, scopes, created_at) VALUES ($1, $2, $3, ni.clock())
ON CONFLICT (client) DO NOTHING RETURNING client;
