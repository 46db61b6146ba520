-- An entry of a posting that NI does not have.
INSERT INTO core.entry (account, amount, currency, value_date, business_date, booked_at, posting_id)
VALUES ('INT-CASH', 100, 'CZK', '1993-01-04', '1993-01-04', clock_timestamp(), uuidv7());
