-- A posting by id.
SELECT * FROM ni.posting WHERE bucket = $1 AND posting_id = $2;
