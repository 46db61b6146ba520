-- The reference core's end of day, as role ni_core: one transaction that keeps every table of the
-- core to itself from its first statement to its last. Nobody sees anything of it before its end,
-- and a core that is killed meanwhile has not begun.
--
-- In this order: core.look_end_of_day_v1 in a transaction of its own; then, in one,
-- core.begin_end_of_day_v1, core.charge_v1 and core.finish_end_of_day_v1.

-- The mode and epoch of NI, which the core's role cannot read.
CREATE OR REPLACE FUNCTION core.ni_mode_v1(OUT o_mode text, OUT o_epoch integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT m.mode, m.epoch INTO o_mode, o_epoch FROM ni.mode AS m WHERE m.one;
END
$$;

-- Whether a date can be ended now. `done`: it has ended; without a date: one has in this night
-- already, for whoever asks twice in a night repeats himself. `by_day`: NI still decides on the
-- core. `other_date`: the core is at another date. `no_date`: it has none. Else `ready`.
CREATE OR REPLACE FUNCTION core.look_end_of_day_v1(
    p_date date, p_force boolean,
    OUT o_status text, OUT o_business_date date, OUT o_next_business_date date
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_ni   record;
    v_done record;
BEGIN
    SELECT * INTO v_ni FROM core.ni_mode_v1();
    SELECT l.business_date, l.next_business_date INTO o_business_date, o_next_business_date
      FROM core.ledger AS l;
    IF NOT FOUND THEN
        o_status := 'no_date';
        RETURN;
    END IF;
    SELECT e.business_date, e.next_business_date
      INTO v_done
      FROM core.end_of_day AS e
     WHERE e.business_date = coalesce(p_date, o_business_date)
        OR p_date IS NULL AND v_ni.o_mode = 'night' AND e.ni_epoch = v_ni.o_epoch
     ORDER BY e.business_date DESC LIMIT 1;
    IF FOUND THEN
        o_status := 'done';
        o_business_date := v_done.business_date;
        o_next_business_date := v_done.next_business_date;
        RETURN;
    END IF;
    o_status := CASE WHEN p_date <> o_business_date THEN 'other_date'
                     WHEN v_ni.o_mode = 'day' AND NOT p_force THEN 'by_day'
                     ELSE 'ready' END;
END
$$;

-- Takes the core's tables for the caller's transaction, then looks again. A session that has read
-- one of them in this transaction could deadlock with another that has: lock first.
CREATE OR REPLACE FUNCTION core.begin_end_of_day_v1(
    p_date date, p_force boolean,
    OUT o_status text, OUT o_business_date date, OUT o_next_business_date date
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE core.account, core.packet, core.entry, core.block, core.ledger, core.end_of_day
        IN ACCESS EXCLUSIVE MODE;
    SELECT l.o_status, l.o_business_date, l.o_next_business_date
      INTO o_status, o_business_date, o_next_business_date
      FROM core.look_end_of_day_v1(p_date, p_force) AS l;
END
$$;

-- Interest on a balance for a number of days: positive for the customer's, negative for the bank's.
-- Rates in millionths a year, actual days over 365. Half a minor unit and more is a whole one, in
-- either direction. No step passes bigint while |balance| <= 10^17 and rate x days <= 366,000,000.
CREATE OR REPLACE FUNCTION core.interest_v1(
    p_balance bigint, p_credit_ppm bigint, p_debit_ppm bigint, p_days bigint
) RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE WHEN p_balance >= 0
        THEN p_balance / 365000000 * (p_credit_ppm * p_days)
             + (p_balance % 365000000 * (p_credit_ppm * p_days) + 182500000) / 365000000
        ELSE p_balance / 365000000 * (p_debit_ppm * p_days)
             + (p_balance % 365000000 * (p_debit_ppm * p_days) - 182500000) / 365000000
    END
$$;

-- Books interest and a fee on every active customer account, the fee in one currency alone, and
-- the sums on the bank's own accounts. Returns how many accounts and entries were touched.
CREATE OR REPLACE FUNCTION core.charge_v1(
    p_date date, p_next date, p_credit_ppm bigint, p_debit_ppm bigint, p_fee bigint,
    p_currency text, OUT o_accounts bigint, OUT o_entries bigint
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB' SET jit = off
AS $$
DECLARE
    v_days    bigint := p_next - p_date;
    v_at      timestamptz := ni.clock();
    v_owns    text[];
    v_sources text[];
    v_sums    bigint[];
BEGIN
    WITH due AS (
        UPDATE core.account AS a
           SET balance = a.balance
                         + core.interest_v1(a.balance, p_credit_ppm, p_debit_ppm, v_days)
                         - CASE WHEN a.currency = p_currency THEN p_fee ELSE 0 END
         WHERE a.kind = 'customer' AND a.status = 'active'
           AND (a.currency = p_currency AND p_fee <> 0
                OR core.interest_v1(a.balance, p_credit_ppm, p_debit_ppm, v_days) <> 0)
        RETURNING a.account, a.currency, old.balance
    ), leg AS MATERIALIZED (
        SELECT d.account, d.currency, 'INT-INTEREST-' || d.currency AS own,
               CASE WHEN d.balance < 0 THEN 'debit interest' ELSE 'credit interest' END AS source,
               core.interest_v1(d.balance, p_credit_ppm, p_debit_ppm, v_days) AS amount
          FROM due AS d
        UNION ALL
        SELECT d.account, d.currency, 'INT-FEES-' || d.currency, 'fee', -p_fee
          FROM due AS d WHERE d.currency = p_currency
    ), booked AS (
        INSERT INTO core.entry (account, amount, currency, value_date, business_date, booked_at,
                                narrative, reference)
            SELECT l.account, l.amount, l.currency, p_next, p_date, v_at, l.source,
                   'end of day ' || p_date
              FROM leg AS l WHERE l.amount <> 0
             ORDER BY l.account, l.source
        RETURNING 1
    ), counter AS (
        SELECT l.own, l.source, (-sum(l.amount))::bigint AS total
          FROM leg AS l WHERE l.amount <> 0
         GROUP BY l.own, l.source ORDER BY l.own, l.source
    )
    SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM booked),
           array_agg(c.own), array_agg(c.source), array_agg(c.total)
      INTO o_accounts, o_entries, v_owns, v_sources, v_sums
      FROM counter AS c;
    o_entries := o_entries + core.charge_own_v1(p_date, p_next, v_at, v_owns, v_sources, v_sums);
END
$$;

-- The other side of interest and fees: one entry for each sum, on accounts of the bank's own that
-- end with their currency. One that is not there yet is opened.
CREATE OR REPLACE FUNCTION core.charge_own_v1(
    p_date date, p_next date, p_at timestamptz, p_owns text[], p_sources text[], p_sums bigint[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_other text;
    v_rows  bigint;
BEGIN
    INSERT INTO core.account (account, kind, currency, opened_at)
        SELECT DISTINCT o.own, 'internal', right(o.own, 3), p_at
          FROM unnest(p_owns) AS o (own) ORDER BY o.own
    ON CONFLICT DO NOTHING;
    SELECT a.account INTO v_other
      FROM core.account AS a
     WHERE a.account = ANY (p_owns)
       AND (a.kind <> 'internal' OR a.status <> 'active' OR a.currency <> right(a.account, 3))
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% must be an open internal account of %', v_other, right(v_other, 3)
            USING ERRCODE = 'wrong_object_type';
    END IF;
    UPDATE core.account AS a SET balance = a.balance + s.total
      FROM (SELECT o.own, sum(o.total)::bigint AS total
              FROM unnest(p_owns, p_sums) AS o (own, total) GROUP BY o.own) AS s
     WHERE a.account = s.own;
    INSERT INTO core.entry (account, amount, currency, value_date, business_date, booked_at,
                            narrative, reference)
        SELECT o.own, o.total, right(o.own, 3), p_next, p_date, p_at, o.source,
               'end of day ' || p_date
          FROM unnest(p_owns, p_sources, p_sums) AS o (own, source, total);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;

-- Raises the business date, and notes that the date has ended.
CREATE OR REPLACE FUNCTION core.finish_end_of_day_v1(
    p_date date, p_next date, p_following date, p_accounts bigint, p_entries bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE core.ledger SET business_date = p_next, next_business_date = p_following;
    INSERT INTO core.end_of_day (business_date, next_business_date, ended_at, ni_epoch, accounts,
                                 entries)
        SELECT p_date, p_next, ni.clock(), n.o_epoch, p_accounts, p_entries
          FROM core.ni_mode_v1() AS n;
END
$$;

REVOKE EXECUTE ON FUNCTION
    core.ni_mode_v1, core.look_end_of_day_v1, core.begin_end_of_day_v1, core.charge_v1,
    core.charge_own_v1, core.finish_end_of_day_v1 FROM public;
GRANT EXECUTE ON FUNCTION
    core.ni_mode_v1, core.look_end_of_day_v1, core.begin_end_of_day_v1, core.charge_v1,
    core.charge_own_v1, core.finish_end_of_day_v1 TO ni_core;
