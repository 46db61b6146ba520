-- The core takes the next business date; the one after it is the next day.
UPDATE core.ledger
   SET business_date = next_business_date, next_business_date = next_business_date + 1;
