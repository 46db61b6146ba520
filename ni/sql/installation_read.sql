-- The number of buckets that this database was made with.
SELECT buckets FROM ni.installation;
