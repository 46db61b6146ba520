-- One checksum over every row of every table of ni and core: read before and after requests that
-- must change nothing.
create or replace function pg_temp.fingerprint() returns text
language plpgsql
as $$
declare
    relation regclass;
    checksum text;
    all_of_them text := '';
begin
    for relation in
        select c.oid
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('ni', 'core') and c.relkind in ('r', 'p')
        order by n.nspname, c.relname
    loop
        execute format(
            'select md5(coalesce(string_agg(t::text, '';'' order by t::text), '''')) from %s t',
            relation)
        into checksum;
        all_of_them := all_of_them || relation::text || ' ' || checksum || E'\n';
    end loop;
    return all_of_them;
end
$$;
