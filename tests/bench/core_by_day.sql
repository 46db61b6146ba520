-- What a session of NI must not do by night.
select account from day_alias.account limit 1;
