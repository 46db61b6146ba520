-- Every tenth customer wants texts about postings.
INSERT INTO ni.sms_subscription (bucket, account, phone, language, types, since)
SELECT 0, 'CZ' || lpad(n::text, 10, '0'), '+420' || lpad(n::text, 9, '6'), 'en',
       ARRAY['ni.posting.created'], clock_timestamp()
  FROM generate_series(0, $1::int - 1, 10) AS n
    ON CONFLICT DO NOTHING
