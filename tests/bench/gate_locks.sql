-- Whether a single command takes the gate.
select position('LOCK TABLE ni.gate' in pg_get_functiondef('ni.lock_v1'::regproc)) > 0;
