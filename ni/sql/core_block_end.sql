-- Ends an account's blocks (of one reference, or all); one that has not begun is taken away.
WITH clock AS MATERIALIZED (SELECT ni.clock() AS instant),
ended AS (
    UPDATE core.block AS b SET valid_to = clock.instant FROM clock
    WHERE b.account = $1 AND ($2::text IS NULL OR b.legal_reference = $2)
      AND b.valid_from < clock.instant
      AND (b.valid_to IS NULL OR b.valid_to > clock.instant)
    RETURNING b.block_id
), taken_away AS (
    DELETE FROM core.block AS b USING clock
    WHERE b.account = $1 AND ($2::text IS NULL OR b.legal_reference = $2)
      AND b.valid_from >= clock.instant
    RETURNING b.block_id
)
SELECT (SELECT count(*) FROM ended) + (SELECT count(*) FROM taken_away);
