-- A row of the copy that is not what the core has, with no note of it.
update night.account set balance = balance - 1 where account = $1;
