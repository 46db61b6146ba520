-- Whether a client that is not disabled has the key of this hash.
SELECT EXISTS (SELECT FROM ni.client WHERE client = $1 AND key_hash = $2 AND disabled_at IS NULL);
