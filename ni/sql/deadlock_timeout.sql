-- After how many milliseconds of waiting this session looks for a deadlock.
SELECT s.setting::integer FROM pg_catalog.pg_settings AS s WHERE s.name = 'deadlock_timeout';
