-- Those of the accounts (customers, others) without a movement of NI, held so until the end.
SELECT account FROM core.unmoved_accounts($1, $2) AS unmoved (account);
