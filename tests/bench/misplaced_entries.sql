-- Gives the entries of every booked posting to another posting.
UPDATE core.entry SET posting_id = uuidv7();
