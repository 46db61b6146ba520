-- The business dates that the core has ended, each with NI's epoch of then.
SELECT business_date, ni_epoch FROM core.end_of_day;
