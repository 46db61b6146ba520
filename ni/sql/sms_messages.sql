-- The newest messages of account $1 (null: of all) with status $2 (null: any), at most $3.
SELECT m.event_id, m.account, m.sequence, m.type, m.event_time, m.phone, m.language, m.text, m.late,
       m.status, m.reason, m.tries, m.taken_at, m.changed_at
  FROM ni.sms_message AS m
 WHERE ($1::text IS NULL OR m.account = $1) AND ($2::text IS NULL OR m.status = $2)
 ORDER BY m.event_time DESC, m.sequence DESC NULLS LAST, m.event_id DESC
 LIMIT $3;
