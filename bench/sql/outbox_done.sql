-- Removes events that have been delivered.
DELETE FROM ni.outbox WHERE bucket = 0 AND event_id = ANY ($1);
