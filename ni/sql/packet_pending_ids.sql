-- The postings that a run would take.
SELECT posting_id
  FROM ni.posting
 WHERE client = $1 AND packet = $2 AND status = 'pending' AND home
 ORDER BY posting_id
 LIMIT $3;
