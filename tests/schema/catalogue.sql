-- Keys of NI's tables: table, constraint or index, whether unique, its columns in order.
SELECT t.relnamespace::regnamespace::text AS schema, t.relname AS "table", i.relname AS index,
       array_agg(a.attname::text ORDER BY k.place) AS columns,
       array_agg(coalesce(c.collname::text, '') ORDER BY k.place) AS collations,
       array_agg(a.atttypid::regtype::text ORDER BY k.place) AS types
  FROM pg_index AS x
  JOIN pg_class AS t ON t.oid = x.indrelid
  JOIN pg_class AS i ON i.oid = x.indexrelid
 CROSS JOIN LATERAL unnest(x.indkey::smallint[], x.indcollation::oid[])
       WITH ORDINALITY AS k (attnum, coll, place)
  JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.attnum
  LEFT JOIN pg_collation AS c ON c.oid = k.coll
 WHERE t.relnamespace::regnamespace::text IN ('ni', 'night') AND t.relkind IN ('r', 'p')
   AND x.indisunique
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3;
