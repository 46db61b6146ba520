-- Wants no texts about $1 any more; the account, if it was there. What is missed from now on is not
-- waited for when texts are wanted again.
WITH forgotten AS (
    UPDATE ni.sms_account AS a SET seen_sequence = NULL
     WHERE a.bucket = ni.bucket_of($1) AND a.account = $1
)
DELETE FROM ni.sms_subscription AS s
 WHERE s.bucket = ni.bucket_of($1) AND s.account = $1
RETURNING s.account;
