-- Closes an account.
UPDATE core.account SET status = 'closed' WHERE account = $1;
