-- What the views of the day show and those of the night do not, or the other way.
SELECT 'account' AS relation, t.account AS what FROM (
    (SELECT * FROM day_alias.account EXCEPT ALL SELECT * FROM night_alias.account)
    UNION ALL (SELECT * FROM night_alias.account EXCEPT ALL SELECT * FROM day_alias.account)) AS t
UNION ALL
SELECT 'block', t.account FROM (
    (SELECT * FROM day_alias.block EXCEPT ALL SELECT * FROM night_alias.block)
    UNION ALL (SELECT * FROM night_alias.block EXCEPT ALL SELECT * FROM day_alias.block)) AS t
UNION ALL
SELECT 'ledger', t.next_business_date::text FROM (
    (SELECT next_business_date FROM day_alias.ledger
     EXCEPT ALL SELECT business_date FROM night_alias.ledger)) AS t;
