-- Sets the core's business date and the one after it.
INSERT INTO core.ledger (business_date, next_business_date) VALUES ($1, $2)
ON CONFLICT (one) DO UPDATE
SET business_date = excluded.business_date, next_business_date = excluded.next_business_date;
