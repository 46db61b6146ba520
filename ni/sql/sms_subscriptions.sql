-- Who wants texts, after account $1, at most $2.
SELECT s.account, s.phone, s.language, s.types, s.since
  FROM ni.sms_subscription AS s
 WHERE s.account > $1
 ORDER BY s.account
 LIMIT $2;
