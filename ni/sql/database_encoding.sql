-- The encoding of a database, or no row when it does not exist.
SELECT pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = $1;
