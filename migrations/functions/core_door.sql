-- The core's own door: what the core calls in its own transactions.

-- What a debit that the core starts itself may take: locks NI's position of the account in the
-- core's own transaction, so that the core and NI never spend the same money, and returns what is
-- available. By day only, and only in short transactions: decisions on the account wait for it.
-- The core's own row is locked first: a packet may hold it for seconds, and what waits for that
-- must not hold the position.
CREATE OR REPLACE FUNCTION ni.lock_available(p_account text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = day_alias, pg_temp
AS $$
DECLARE
    v_figures record;
    v_view    ni.account_view_v1;
    v_bucket  smallint := ni.bucket_of(p_account);
BEGIN
    LOCK TABLE ni.gate IN ROW SHARE MODE;
    IF (SELECT m.mode <> 'day' FROM ni.mode AS m WHERE m.one) THEN
        RAISE EXCEPTION 'by night NI decides on its copy; ask again by day'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM FROM core.account AS a WHERE a.account = p_account FOR NO KEY UPDATE;
    INSERT INTO ni.position (bucket, account)
        SELECT v_bucket, b.account FROM day_alias.account AS b
         WHERE b.account = p_account AND b.kind = 'customer'
    ON CONFLICT DO NOTHING;
    PERFORM FROM ni.position AS p
      WHERE p.bucket = v_bucket AND p.account = p_account FOR NO KEY UPDATE;
    SELECT * INTO v_figures FROM ni.figures_v1(v_bucket, '-infinity', ARRAY[p_account]);
    v_view := v_figures.accounts[1];
    -- A position outlives an account that the core deletes, or makes its own.
    IF v_view.kind IS DISTINCT FROM 'customer' THEN
        RAISE EXCEPTION '% is no customer account', p_account USING ERRCODE = 'no_data_found';
    END IF;
    RETURN v_view.base + v_view.credit_limit
           + coalesce(v_view.created, 0) - coalesce(v_view.applied, 0)
           - (coalesce(v_view.held, 0) - coalesce(v_view.expired, 0));
END
$$;

REVOKE EXECUTE ON FUNCTION ni.lock_available FROM public;
GRANT EXECUTE ON FUNCTION ni.lock_available TO ni_core;
GRANT USAGE ON SCHEMA ni TO ni_core;
