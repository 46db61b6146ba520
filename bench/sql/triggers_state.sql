-- How many of the night copy's triggers stand on the accounts, and how many of them fire always.
SELECT count(*) AS stand, count(*) FILTER (WHERE tgenabled = 'A') AS fire
  FROM pg_trigger
 WHERE tgrelid = 'core.account'::regclass AND tgname LIKE 'night\_copy\_%';
