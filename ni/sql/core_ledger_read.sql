-- The core's business dates; no row before the first is set.
SELECT business_date, next_business_date FROM core.ledger;
