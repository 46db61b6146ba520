-- Gives an account another credit limit.
UPDATE core.account SET credit_limit = $2 WHERE account = $1;
