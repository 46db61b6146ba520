-- The size of the outbox with all its parts and indexes.
SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('ni.outbox')
