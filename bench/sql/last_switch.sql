-- The last switch, and how long ago it was: the flip and this session have one clock.
SELECT epoch, drain_ms, switch_ms, gate_tries,
       extract(epoch FROM clock_timestamp() - at)::float8 AS ago_s
  FROM ni.day_switch
 ORDER BY epoch DESC
 LIMIT 1;
