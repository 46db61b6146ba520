-- The bank's cash, which every debit of the load credits.
INSERT INTO core.account (account, kind, currency) VALUES ('INT-CASH', 'internal', 'CZK');
