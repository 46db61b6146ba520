-- Those of the accounts that have an entry in the core.
SELECT wanted.account FROM unnest($1::text[]) AS wanted (account)
WHERE EXISTS (SELECT FROM core.entry AS e WHERE e.account = wanted.account);
