-- By which the snapshots find a key's note; NI itself never looks for one.
CREATE INDEX IF NOT EXISTS bench_changed_key ON night.changed (bucket, relation, key);
