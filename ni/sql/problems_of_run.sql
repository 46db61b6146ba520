-- The first problems that a run raised.
SELECT posting_id, code, detail
  FROM ni.problem
 WHERE client = $1 AND packet = $2 AND number = $3 AND raised_at = $4
 ORDER BY posting_id
 LIMIT $5;
