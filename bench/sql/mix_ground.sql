-- What a mixed load begins on: the day, and the balances of the first $1 customer accounts. The
-- copy alone is read, for the core may be held.
SELECT mode.mode, mode.epoch, ledger.business_date,
       min(account.balance) AS lowest, max(account.balance) AS highest
  FROM ni.mode AS mode
 CROSS JOIN night.ledger AS ledger
 CROSS JOIN night.account AS account
 WHERE account.bucket = 0 AND account.account >= 'CZ' COLLATE "C"
   AND account.account < 'CZ' || lpad($1::bigint::text, 10, '0') COLLATE "C"
 GROUP BY mode.mode, mode.epoch, ledger.business_date;
