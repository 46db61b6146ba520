-- A copy without accounts, so that a full copy really has to copy each of them.
TRUNCATE night.account;
