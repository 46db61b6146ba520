-- What was applied to this database, with the hash of each file as it was then.
CREATE SCHEMA IF NOT EXISTS ni;
CREATE TABLE IF NOT EXISTS ni.migration (
    name       text COLLATE "C" PRIMARY KEY,
    sha256     text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL
);
GRANT SELECT ON ni.migration TO ni_engine;
