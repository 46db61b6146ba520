-- The packets of a client by name, from after a name on: those that were unloaded and those that
-- owe the core something, each name found by one step in the index.
WITH RECURSIVE unbooked (packet) AS (
    (SELECT p.packet FROM ni.posting AS p
      WHERE p.client = $1 AND p.home AND p.packet > $2
        AND p.status IN ('pending', 'awaiting_acceptance', 'problem')
      ORDER BY p.packet LIMIT 1)
    UNION ALL
    SELECT (SELECT p.packet FROM ni.posting AS p
             WHERE p.client = $1 AND p.home AND p.packet > u.packet
               AND p.status IN ('pending', 'awaiting_acceptance', 'problem')
             ORDER BY p.packet LIMIT 1)
      FROM unbooked AS u
     WHERE u.packet IS NOT NULL
)
SELECT n.packet
  FROM ((SELECT u.packet FROM unbooked AS u WHERE u.packet IS NOT NULL LIMIT $3)
        UNION
        (SELECT k.packet FROM ni.packet AS k
          WHERE k.bucket = 0 AND k.client = $1 AND k.packet > $2
          ORDER BY k.packet LIMIT $3)) AS n
 ORDER BY n.packet
 LIMIT $3;
