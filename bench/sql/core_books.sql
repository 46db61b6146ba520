-- The core's own booking of a night: $2 minor units to each of the first $1 customer accounts.
UPDATE core.account
   SET balance = balance + $2
 WHERE account COLLATE "C" < 'CZ' || lpad($1::bigint::text, 10, '0')
   AND account COLLATE "C" >= 'CZ' AND kind = 'customer';
