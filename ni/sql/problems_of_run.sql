-- The first problems that a run raised, when it was unloaded or when it was accepted.
SELECT posting_id, code, detail
  FROM ni.problem
 WHERE client = $1 AND packet = $2 AND number = $3
 ORDER BY posting_id
 LIMIT $4;
