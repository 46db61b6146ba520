-- What pgbench writes: NI's own tables again, column for column and index for index, so that the
-- comparison is about the number of commits and not about the width of a row.
CREATE SCHEMA bench;
CREATE TABLE bench.position (LIKE ni.position INCLUDING ALL);
CREATE TABLE bench.state (LIKE ni.state INCLUDING ALL);
CREATE TABLE bench.applied (LIKE ni.applied INCLUDING ALL);
CREATE TABLE bench.posting (LIKE ni.posting INCLUDING ALL);
CREATE TABLE bench.unbooked (LIKE ni.unbooked INCLUDING ALL);
CREATE TABLE bench.request (LIKE ni.request INCLUDING ALL);
CREATE TABLE bench.outbox (LIKE ni.outbox INCLUDING ALL);

-- One conditional debit, as a service without group commit does it: lock, read, decide, write.
-- Returns what is available afterwards; -1 if the money does not suffice, the account is blocked
-- or the key was used. Minor units.
CREATE FUNCTION bench.debit(p_number bigint, p_amount bigint, p_key bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    debited CONSTANT text := 'CZ' || lpad(p_number::text, 10, '0');
    request_key CONSTANT text := lpad(to_hex(p_key), 16, '0') || 'bench0123456';
    instant timestamptz;
    found record;
    movement uuid;
    rest bigint;
BEGIN
    PERFORM FROM bench.position WHERE bucket = 0 AND account = debited FOR NO KEY UPDATE;
    instant := clock_timestamp();
    SELECT base.balance + base.credit_limit + state.created - coalesce(booked.applied, 0)
               - state.held AS available,
           state.era, state.sequence + 1 AS sequence, ledger.business_date,
           EXISTS (SELECT FROM core.block
                    WHERE account = debited AND side <> 'credit' AND valid_from <= instant
                      AND (valid_to IS NULL OR valid_to > instant)) AS blocked
      INTO found
      FROM core.account AS base
      CROSS JOIN core.ledger AS ledger
      JOIN bench.state AS state ON state.bucket = 0 AND state.account = base.account
      LEFT JOIN bench.applied AS booked ON booked.bucket = 0 AND booked.account = base.account
     WHERE base.account = debited
     ORDER BY state.era DESC
     LIMIT 1;
    IF found.blocked OR found.available < p_amount OR EXISTS (
        SELECT FROM bench.request WHERE bucket = 0 AND client = 'bench' AND key = request_key
    ) THEN
        RETURN -1;
    END IF;
    rest := found.available - p_amount;
    movement := uuidv7();
    UPDATE bench.state
       SET created = created - p_amount, sequence = found.sequence, decided_at = instant
     WHERE bucket = 0 AND account = debited AND era = found.era;
    INSERT INTO bench.posting (
        bucket, posting_id, home, client, type, debit_account, credit_account, debit_customer,
        credit_customer, amount, currency, packet, straight_through, status, check_mode,
        value_date, valid_from, debit_available_after, debit_sequence, epoch, created_at,
        changed_at)
    VALUES (0, movement, true, 'bench', 'TRANSFER', debited, 'INT-CASH', true, false, p_amount,
            'CZK', 'bench', false, 'pending', 'available', found.business_date, instant, rest,
            found.sequence, 1, instant, instant);
    INSERT INTO bench.unbooked (
        bucket, posting_id, client, packet, status, straight_through, amount, currency,
        credit_internal)
    VALUES (0, movement, 'bench', 'bench', 'pending', false, p_amount, 'CZK', 'INT-CASH');
    INSERT INTO bench.request (
        bucket, client, key, fingerprint, decision, document, decided_at)
    VALUES (0, 'bench', request_key, sha256(convert_to(debited || p_amount, 'UTF8')), 0,
            movement || ' ' || rest || ' ' || found.sequence, instant);
    INSERT INTO bench.outbox (
        bucket, event_id, type, account, sequence, epoch, client, movement_id, currency, amount,
        direction, available_after)
    VALUES (0, uuidv7(), 'ni.posting.created', debited, found.sequence, 1, 'bench', movement,
            'CZK', p_amount, -1, rest);
    RETURN rest;
END
$$;
