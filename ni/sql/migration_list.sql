-- The applied migrations and function files.
SELECT name, sha256 FROM ni.migration;
