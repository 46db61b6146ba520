-- Reads that name a base relation go through the gate like every decision does.

-- The balance of an account, all figures of one snapshot. No row: the account does not exist.
-- `o_pending` of an internal account is summed over its pending legs; it has no counters.
CREATE OR REPLACE FUNCTION ni.balance_v1(
    p_bucket smallint, p_mode text, p_account text,
    OUT o_mode text, OUT o_epoch integer, OUT o_business_date date, OUT o_as_of timestamptz,
    OUT o_kind text, OUT o_currency text, OUT o_status text, OUT o_base bigint,
    OUT o_credit_limit bigint, OUT o_pending numeric, OUT o_held bigint, OUT o_sequence bigint,
    OUT o_blocks ni.block_view_v1[]
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode, m.epoch INTO o_mode, o_epoch FROM ni.mode AS m WHERE m.one;
    IF o_mode <> p_mode THEN
        RETURN;
    END IF;
    PERFORM ni.expect_session_v1(p_mode);
    SELECT l.business_date INTO o_business_date FROM ledger AS l;
    SELECT c.instant, b.kind, b.currency, b.status, b.balance, b.credit_limit,
           CASE b.kind WHEN 'customer' THEN coalesce(s.created, 0) - coalesce(
               (SELECT p.applied FROM ni.applied AS p
                 WHERE p.bucket = p_bucket AND p.account = p_account), 0)
           ELSE ni.internal_pending_v1(p_account) END,
           coalesce(s.held, 0) - coalesce(e.remaining, 0), coalesce(s.sequence, 0), k.blocks
      INTO o_as_of, o_kind, o_currency, o_status, o_base, o_credit_limit, o_pending, o_held,
           o_sequence, o_blocks
      FROM account AS b
      LEFT JOIN LATERAL (
        SELECT * FROM ni.state AS t
         WHERE t.bucket = p_bucket AND t.account = p_account
         ORDER BY t.era DESC LIMIT 1) AS s ON true
     CROSS JOIN LATERAL (SELECT greatest(ni.clock(), s.decided_at) AS instant OFFSET 0) AS c
     CROSS JOIN LATERAL (
        SELECT sum(h.amount - h.captured - h.released)::bigint AS remaining
          FROM ni.hold AS h
         WHERE s.next_expiry <= c.instant
           AND h.bucket = p_bucket AND h.account = p_account
           AND h.status = 'active' AND h.expires_at <= c.instant) AS e
     CROSS JOIN LATERAL (
        SELECT array_agg(ROW(t.side, t.legal_reference, t.valid_from, t.valid_to)
                         ::ni.block_view_v1 ORDER BY t.valid_from) AS blocks
          FROM block AS t
         WHERE t.account = p_account AND t.valid_from <= c.instant
           AND (t.valid_to IS NULL OR t.valid_to > c.instant)) AS k
     WHERE b.account = p_account;
END
$$;

-- The net of an internal account's pending legs, over all buckets. STABLE on purpose: it is part of
-- the statement that reads the base and sees that statement's snapshot.
CREATE OR REPLACE FUNCTION ni.internal_pending_v1(p_account text) RETURNS numeric
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_pending numeric;
BEGIN
    SELECT (SELECT coalesce(sum(u.amount), 0) FROM ni.unbooked AS u
             WHERE u.credit_internal = p_account AND u.status <> 'cancelled')
           - (SELECT coalesce(sum(u.amount), 0) FROM ni.unbooked AS u
               WHERE u.debit_internal = p_account AND u.status <> 'cancelled')
      INTO v_pending;
    RETURN v_pending;
END
$$;

-- Whether and as what an account exists: its kind, or no kind.
CREATE OR REPLACE FUNCTION ni.account_kind_v1(
    p_mode text, p_account text, OUT o_mode text, OUT o_kind text
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    SELECT m.mode INTO o_mode FROM ni.mode AS m WHERE m.one;
    IF o_mode <> p_mode THEN
        RETURN;
    END IF;
    PERFORM ni.expect_session_v1(p_mode);
    SELECT b.kind INTO o_kind FROM account AS b WHERE b.account = p_account;
END
$$;
