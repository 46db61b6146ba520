-- Statistics after the bank has grown, as autovacuum would make them a little later.
ANALYZE core.account, night.account;
