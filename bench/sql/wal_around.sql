-- Uses up as many segments of the write-ahead log as the server keeps, so that after the next
-- checkpoint they are used again, and no commit waits until a new one has been filled with zeros.
SELECT count(pg_logical_emit_message(false, 'bench', '')), count(pg_switch_wal())
  FROM generate_series(1, (SELECT pg_size_bytes(current_setting('max_wal_size'))
                                  / pg_size_bytes(current_setting('wal_segment_size')))) AS segment
