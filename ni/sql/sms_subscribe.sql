-- Wants texts about $1: phone $2, language $3, types $4. What is there already is replaced.
INSERT INTO ni.sms_subscription AS s (bucket, account, phone, language, types, since)
VALUES (ni.bucket_of($1), $1, $2, $3, $4, ni.clock())
ON CONFLICT (bucket, account) DO UPDATE
   SET phone = excluded.phone, language = excluded.language, types = excluded.types
RETURNING s.since;
