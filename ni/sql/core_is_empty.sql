-- Whether the core has no account yet.
SELECT NOT EXISTS (SELECT FROM core.account);
