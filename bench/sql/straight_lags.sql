-- From a straight-through posting's acceptance until the run that booked it was seen. The runs are
-- $2 packet, $3 number, $4 seen at. Counted is what the client $1 had accepted since $5.
WITH lag AS (
    SELECT extract(epoch FROM run.seen_at - posting.created_at)::float8 AS seconds
      FROM ni.posting
      LEFT JOIN unnest($2::text[], $3::integer[], $4::timestamptz[])
                AS run (packet, number, seen_at)
        ON run.packet = posting.packet AND run.number = posting.unload_number
     WHERE posting.client = $1 AND posting.home AND posting.straight_through
       AND posting.created_at >= $5
)
SELECT count(*) AS postings,
       count(*) FILTER (WHERE seconds IS NULL) AS unseen,
       coalesce(percentile_disc(0.50) WITHIN GROUP (ORDER BY seconds), 0) AS p50_s,
       coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY seconds), 0) AS p99_s,
       coalesce(max(seconds), 0) AS max_s
  FROM lag;
