-- All clients, without their keys' hashes.
SELECT client, scopes, created_at, disabled_at FROM ni.client ORDER BY client;
