-- A row that the copy lacks, with no note of it.
delete from night.account where account = $1;
