-- A transaction that stays open: from its id on, no dead row version of the database can go.
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
BEGIN;
