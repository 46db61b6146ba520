-- Disables a client, or tells since when it has been; no row when there is none.
UPDATE ni.client SET disabled_at = coalesce(disabled_at, ni.clock()) WHERE client = $1
RETURNING disabled_at;
