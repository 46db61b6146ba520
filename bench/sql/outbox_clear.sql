-- Takes away the events of other measures, which nobody has delivered.
TRUNCATE ni.outbox
