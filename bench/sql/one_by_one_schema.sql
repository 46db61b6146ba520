-- Booking with a commit a posting: the same tables, tests and rows as an unload, without its sets.
CREATE SCHEMA one_by_one;
CREATE TABLE one_by_one.posting (
    number     integer PRIMARY KEY,
    bucket     smallint NOT NULL,
    posting_id uuid NOT NULL,
    packet_id  bigint NOT NULL
);

-- Books the posting of this number. The accounts are locked in the order that an unload keeps, the
-- internal one last; both are tested once, as late as that allows.
CREATE FUNCTION one_by_one.book(p_number integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    instant timestamptz;
    todo one_by_one.posting;
    taken ni.posting;
    good integer;
BEGIN
    LOCK TABLE ni.unload_gate IN ROW SHARE MODE NOWAIT;
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT * INTO STRICT todo FROM one_by_one.posting WHERE number = p_number;
    SELECT * INTO STRICT taken FROM ni.posting
     WHERE bucket = todo.bucket AND posting_id = todo.posting_id AND status = 'pending'
       FOR UPDATE;
    PERFORM FROM core.account WHERE account = taken.debit_account FOR NO KEY UPDATE;
    PERFORM FROM core.account WHERE account = taken.credit_account FOR NO KEY UPDATE;
    instant := clock_timestamp();
    SELECT count(*) INTO good
      FROM (VALUES ('debit', taken.debit_account, taken.debit_customer),
                   ('credit', taken.credit_account, taken.credit_customer))
           AS side (side, account, customer)
      JOIN core.account AS base ON base.account = side.account
     WHERE base.status = 'active' AND base.currency = taken.currency
       AND (base.kind = 'customer') = side.customer
       AND NOT EXISTS (SELECT FROM core.block
                        WHERE block.account = side.account AND block.side IN (side.side, 'all')
                          AND valid_from <= instant
                          AND (valid_to IS NULL OR valid_to > instant));
    IF good <> 2 OR (SELECT mode FROM ni.mode) <> 'day' THEN
        RAISE EXCEPTION 'posting % cannot be booked', taken.posting_id;
    END IF;
    INSERT INTO core.entry (packet_id, account, amount, currency, value_date, business_date,
                            booked_at, narrative, reference, legal_reference, posting_id, link_id)
    SELECT todo.packet_id, side.account, side.amount, taken.currency, taken.value_date,
           ledger.business_date, instant, taken.narrative, taken.reference,
           taken.legal_reference, taken.posting_id, taken.link_id
      FROM (VALUES (taken.debit_account, -taken.amount), (taken.credit_account, taken.amount))
           AS side (account, amount)
     CROSS JOIN core.ledger AS ledger;
    UPDATE ni.posting
       SET status = 'booked', unload_number = 1, changed_at = instant
     WHERE bucket = taken.bucket AND posting_id = taken.posting_id AND status = 'pending';
    DELETE FROM ni.unbooked
     WHERE bucket = taken.bucket AND client = taken.client AND packet = taken.packet
       AND status = 'pending' AND posting_id = taken.posting_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'posting % is not among the unbooked', taken.posting_id;
    END IF;
    INSERT INTO ni.outbox (bucket, event_id, type, epoch, client, movement_id, currency, amount,
                           reference, narrative, packet, packet_number)
    SELECT taken.bucket, uuidv7(), 'ni.posting.booked', epoch, taken.client, taken.posting_id,
           taken.currency, taken.amount, taken.reference, taken.narrative, taken.packet, 1
      FROM ni.mode;
    UPDATE core.account SET balance = balance - taken.amount WHERE account = taken.debit_account;
    INSERT INTO ni.applied AS a (bucket, account, applied)
    VALUES (taken.bucket, taken.debit_account, -taken.amount)
    ON CONFLICT (bucket, account) DO UPDATE SET applied = a.applied + excluded.applied;
    UPDATE core.account SET balance = balance + taken.amount WHERE account = taken.credit_account;
END
$$;
