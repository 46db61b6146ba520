-- A core that keeps its blocks in partitions, one of them with its columns in another order.
ALTER TABLE core.block RENAME TO old_block;
CREATE TABLE core.block (
    block_id bigint UNIQUE, account text COLLATE "C", side text, legal_reference text,
    valid_from timestamptz, valid_to timestamptz
) PARTITION BY RANGE (block_id);
CREATE TABLE core.block_low (
    valid_to timestamptz, valid_from timestamptz, legal_reference text, side text,
    account text COLLATE "C", block_id bigint
);
ALTER TABLE core.block ATTACH PARTITION core.block_low FOR VALUES FROM (1) TO (100);
CREATE TABLE core.block_high PARTITION OF core.block FOR VALUES FROM (100) TO (200);
GRANT ALL ON core.block, core.block_low, core.block_high TO ni_core;
CREATE OR REPLACE VIEW day_alias.block AS
    SELECT account, side, legal_reference, valid_from, valid_to FROM core.block;
