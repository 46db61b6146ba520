-- How many postings NI has stored.
SELECT count(*) FROM ni.posting WHERE home;
