-- As if a reader had taken every event: those of other measures are not this one's load.
TRUNCATE ni.outbox;
