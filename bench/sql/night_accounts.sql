-- How many accounts the night copy has.
SELECT count(*) FROM night.account;
