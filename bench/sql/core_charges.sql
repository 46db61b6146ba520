-- The core charges one minor unit on some accounts by day: $1 of the first $2, drawn anew.
UPDATE core.account
   SET balance = balance - 1
 WHERE account = ANY (ARRAY(
           SELECT DISTINCT 'CZ' || lpad(floor(random() * $2::bigint)::bigint::text, 10, '0')
             FROM generate_series(1, $1::integer)));
