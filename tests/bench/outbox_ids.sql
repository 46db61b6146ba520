-- What nobody has taken.
select event_id from ni.outbox order by event_id;
