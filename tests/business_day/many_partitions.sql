-- A core that keeps its blocks in as many partitions as the setting test.partitions says.
DO $$
BEGIN
    ALTER TABLE core.block RENAME TO old_block;
    CREATE TABLE core.block (
        block_id bigint UNIQUE, account text COLLATE "C", side text, legal_reference text,
        valid_from timestamptz, valid_to timestamptz
    ) PARTITION BY RANGE (block_id);
    FOR v_part IN 1..current_setting('test.partitions')::integer LOOP
        EXECUTE format(
            'CREATE TABLE core.block_%s PARTITION OF core.block FOR VALUES FROM (%s) TO (%s)',
            v_part, v_part * 1000, v_part * 1000 + 1000);
    END LOOP;
    CREATE OR REPLACE VIEW day_alias.block AS
        SELECT account, side, legal_reference, valid_from, valid_to FROM core.block;
    PERFORM ni.install_night_copy_v1();
END
$$;
