-- What decides how durable and how fast the server is, and whether it differs from the default.
SELECT name, current_setting(name) AS value,
       source IN ('default', 'override') OR setting = boot_val AS is_default
  FROM pg_settings
 WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes',
                'wal_sync_method', 'wal_level', 'commit_delay', 'shared_buffers', 'wal_buffers',
                'max_wal_size', 'checkpoint_timeout', 'max_connections', 'autovacuum', 'io_method')
 ORDER BY name;
