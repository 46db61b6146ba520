-- Statistics for the plans of the baseline: it is to be as fast as it can.
ANALYZE bench.position, bench.state, core.account, core.ledger;
