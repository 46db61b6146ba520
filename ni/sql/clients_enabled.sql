-- The clients that may call, with the SHA-256 of their keys.
SELECT client, key_hash, scopes FROM ni.client WHERE disabled_at IS NULL
