-- What the core has of NI's postings: how many are booked, how many entries postings have, how many
-- booked postings are without two legs of sum zero, the entries of customers less what NI has
-- applied, and the rows kept of unbooked postings less those postings. The last three must be 0.
WITH leg AS MATERIALIZED (
    SELECT posting_id, count(*) = 2 AND sum(amount) = 0 AS even
      FROM core.entry WHERE posting_id IS NOT NULL GROUP BY posting_id
)
SELECT (SELECT count(*) FROM ni.posting WHERE home AND status = 'booked') AS booked,
       (SELECT count(*) FROM core.entry WHERE posting_id IS NOT NULL) AS entries,
       (SELECT count(*)
          FROM ni.posting LEFT JOIN leg USING (posting_id)
         WHERE posting.home AND posting.status = 'booked' AND leg.even IS NOT TRUE) AS uneven,
       (SELECT coalesce(sum(entry.amount), 0)::bigint
          FROM core.entry JOIN core.account USING (account)
         WHERE account.kind = 'customer' AND entry.posting_id IS NOT NULL)
       - (SELECT coalesce(sum(applied), 0)::bigint FROM ni.applied) AS unapplied,
       (SELECT count(*) FROM ni.unbooked)
       - (SELECT count(*) FROM ni.posting WHERE home AND status <> 'booked') AS unkept;
