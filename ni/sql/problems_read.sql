-- Problems of one client or of all, oldest first, from after one on.
SELECT p.posting_id, p.raised_at, p.client, p.packet, p.number, p.code, p.detail,
       p.resolved_at, p.action, p.reason, p.resolved_by, p.actor,
       t.debit_account, t.credit_account, t.amount, t.currency
  FROM ni.problem AS p
  JOIN ni.posting AS t ON t.bucket = p.bucket AND t.posting_id = p.posting_id
 WHERE ($1::text IS NULL OR p.client = $1)
   AND CASE $2 WHEN 'open' THEN p.resolved_at IS NULL
               WHEN 'resolved' THEN p.resolved_at IS NOT NULL ELSE true END
   AND (p.raised_at, p.posting_id) > ($3, $4)
 ORDER BY p.raised_at, p.posting_id
 LIMIT $5;
