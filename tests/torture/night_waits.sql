-- Whether a close stands and waits for unloads that are under way.
select exists (select from pg_locks where relation = 'ni.unload_gate'::regclass
               and mode = 'ExclusiveLock' and not granted);
