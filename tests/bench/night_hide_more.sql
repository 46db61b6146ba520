-- A row that the core lacks, with no note of it.
insert into night.account (bucket, account, kind, currency, status, balance, credit_limit)
select bucket, account || 'X', kind, currency, status, balance, credit_limit
  from night.account where account = $1;
