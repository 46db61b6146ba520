-- The functions of the night copy that are generated from ni.night_source.
--
-- For each relation of the copy, in the schema night:
--   follow_…   the trigger: writes the copy by day, notes keys by night
--   drop_…     takes keys out of the copy, noting those that it does not find there
--   place_…    rows without content, so that there is something to lock
--   resync_…   copies keys again that were noted
--   compare_…  a range of keys, core against copy, in one snapshot
--
-- No text is built from input: the database's owner writes ni.night_source.

-- The words from which the functions of a relation are made. o_select: bucket, key and columns
-- of a row r of the core's relation; a variable v_buckets is known where it stands.
CREATE OR REPLACE FUNCTION ni.night_words_v1(
    p_relation text, OUT o_key text, OUT o_core_key text, OUT o_core_type text,
    OUT o_collate text, OUT o_columns text, OUT o_select text, OUT o_blank text, OUT o_set text,
    OUT o_differs text
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_source ni.night_source;
    v_table  regclass := format('night.%I', p_relation)::regclass;
    v_owner  text;
BEGIN
    SELECT * INTO STRICT v_source FROM ni.night_source AS s WHERE s.relation = p_relation;
    SELECT quote_ident(a.attname) INTO STRICT o_key
      FROM pg_index AS i
      JOIN pg_attribute AS a ON a.attrelid = v_table AND a.attnum = i.indkey[1]
     WHERE i.indrelid = v_table AND i.indisprimary;
    -- Keys are compared in the collation of the core's own column, or its index would not serve.
    o_core_key := 'r.' || quote_ident(v_source.key);
    SELECT format_type(a.atttypid, a.atttypmod),
           ' COLLATE ' || nullif(a.attcollation, 0)::regcollation INTO o_core_type, o_collate
      FROM pg_attribute AS a
     WHERE a.attrelid = to_regclass(v_source.source) AND a.attname = v_source.key;
    o_core_type := coalesce(o_core_type, 'text');
    v_owner := coalesce(v_source.columns ->> 'account', o_core_key);
    SELECT string_agg(c.name, ', ' ORDER BY c.place),
           string_agg(format('(%s)::%s%s AS %s', v_source.columns ->> c.name, c.type,
                             CASE c.type WHEN 'text' THEN ' COLLATE "C"' ELSE '' END, c.name),
                      ', ' ORDER BY c.place),
           string_agg(format('%L::%s', CASE WHEN c.category = 'N' THEN '0' WHEN c.category = 'D'
                                       THEN '-infinity' ELSE '' END, c.type),
                      ', ' ORDER BY c.place),
           string_agg(format('%1$s = excluded.%1$s', c.name), ', ' ORDER BY c.place),
           format('(%s) IS DISTINCT FROM (%s)', string_agg('n.' || c.name, ', ' ORDER BY c.place),
                  string_agg('c.' || c.name, ', ' ORDER BY c.place))
      INTO STRICT o_columns, o_select, o_blank, o_set, o_differs
      FROM (SELECT quote_ident(a.attname) AS name, a.attnum AS place,
                   format_type(a.atttypid, a.atttypmod) AS type, t.typcategory AS category
              FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
             WHERE a.attrelid = v_table AND a.attnum > 0 AND NOT a.attisdropped
               AND quote_ident(a.attname) NOT IN ('bucket', o_key)) AS c;
    o_select := format(
        'SELECT %s AS bucket, %s AS key, %s',
        CASE p_relation WHEN 'ledger' THEN '0::smallint' ELSE
            format('(crc32(convert_to((%s)::text, ''UTF8'')) %% v_buckets)::smallint', v_owner) END,
        coalesce('(' || o_core_key || ')', '''1''') || '::text COLLATE "C"',
        o_select);
END
$$;

-- What a trigger notes of its statement.
CREATE OR REPLACE FUNCTION ni.night_note_text_v1(
    p_relation text, p_new text, p_old text, p_both text
) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format($text$IF TG_OP = 'UPDATE' THEN
            INSERT INTO night.changed (bucket, relation, key)
                SELECT coalesce(c.bucket, n.bucket), %1$L, coalesce(c.key, n.key) FROM %4$s;
        ELSIF TG_OP = 'INSERT' THEN
            INSERT INTO night.changed (bucket, relation, key)
                SELECT c.bucket, %1$L, c.key FROM %2$s AS c;
        ELSE
            INSERT INTO night.changed (bucket, relation, key)
                SELECT n.bucket, %1$L, n.key FROM %3$s AS n;
        END IF;$text$, p_relation, p_new, p_old, p_both);
END
$$;

-- Whether a transaction of the core writes the copy, and not notes alone: as it began. A commit
-- must show the night all of a transaction or nothing of it; half of one is a state that the core
-- never had. So one that wrote the copy before the flip goes on by night, and one that noted by
-- night goes on noting by day.
CREATE OR REPLACE FUNCTION ni.night_follows_v1(p_day boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_transaction text := pg_current_xact_id()::text;
    v_way         text := current_setting('ni.night_copy_way', true);
BEGIN
    IF split_part(v_way, ' ', 1) IS NOT DISTINCT FROM v_transaction THEN
        RETURN split_part(v_way, ' ', 2) = 'copy';
    END IF;
    v_way := CASE WHEN p_day THEN 'copy' ELSE 'note' END;
    PERFORM set_config('ni.night_copy_way', v_transaction || ' ' || v_way, true);
    RETURN p_day;
END
$$;

-- The trigger of a relation. What is done is the difference of old and new rows by key: a change
-- of the key is one row gone and another one new, and a row whose copied columns stay is left
-- alone. By night keys are noted. Joins are by hash, whatever the first call brought: the plan is
-- kept, and row sets have no statistics. The copy is written without a join.
CREATE OR REPLACE FUNCTION ni.night_follow_text_v1(p_relation text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_words     record;
    v_condition text := (SELECT s.condition FROM ni.night_source AS s
                          WHERE s.relation = p_relation);
    v_new       text;
    v_old       text;
    v_both      text;
    v_put       text;
BEGIN
    SELECT * INTO STRICT v_words FROM ni.night_words_v1(p_relation);
    v_new := format('(%s FROM new_rows AS r WHERE %s)', v_words.o_select, v_condition);
    v_old := format('(%s FROM old_rows AS r WHERE %s)', v_words.o_select, v_condition);
    v_both := format('%s AS c FULL JOIN %s AS n ON n.bucket = c.bucket AND n.key = c.key '
                     'WHERE c.key IS NULL OR n.key IS NULL OR %s', v_new, v_old,
                     v_words.o_differs);
    v_put := format('INSERT INTO night.%1$I AS t (bucket, %2$s, %3$s) '
                    'SELECT c.bucket, c.key, %4$s FROM %%s AS c%%s '
                    'ON CONFLICT (bucket, %2$s) DO UPDATE SET %5$s',
                    p_relation, v_words.o_key, v_words.o_columns,
                    'c.' || replace(v_words.o_columns, ', ', ', c.'), v_words.o_set);
    RETURN format($text$
    CREATE OR REPLACE FUNCTION night.follow_%1$s() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off SET enable_mergejoin = off SET enable_hashjoin = on SET jit = off
AS $follow$
#variable_conflict use_column
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
    v_day     boolean := (SELECT m.mode = 'day' FROM ni.mode AS m);
    v_follows boolean := ni.night_follows_v1(v_day);
    v_gone    record;
BEGIN
    IF NOT (v_day AND v_follows) THEN
        %2$s
    END IF;
    IF NOT v_follows THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        %5$s;
    ELSIF TG_OP = 'DELETE' THEN
        FOR v_gone IN SELECT n.bucket, array_agg(n.key) AS keys FROM %3$s AS n GROUP BY n.bucket
        LOOP
            PERFORM night.drop_%1$s(v_gone.bucket, v_gone.keys);
        END LOOP;
    ELSE
        FOR v_gone IN
            WITH both_rows AS MATERIALIZED (
                SELECT c.*, n.bucket AS old_bucket, n.key AS old_key FROM %4$s
            ), put AS (
                %6$s
            )
            SELECT b.old_bucket AS bucket, array_agg(b.old_key) AS keys FROM both_rows AS b
             WHERE b.key IS NULL GROUP BY b.old_bucket
        LOOP
            PERFORM night.drop_%1$s(v_gone.bucket, v_gone.keys);
        END LOOP;
    END IF;
    RETURN NULL;
END
$follow$;
$text$, p_relation, ni.night_note_text_v1(p_relation, v_new, v_old, v_both), v_old, v_both,
        format(v_put, v_new, ''), format(v_put, 'both_rows', ' WHERE c.key IS NOT NULL'));
END
$$;

-- What takes keys out of the copy and makes places for them.
CREATE OR REPLACE FUNCTION ni.night_place_text_v1(p_relation text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_words record;
BEGIN
    SELECT * INTO STRICT v_words FROM ni.night_words_v1(p_relation);
    RETURN format($text$
    CREATE OR REPLACE FUNCTION night.drop_%1$s(p_bucket smallint, p_keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $drop$
BEGIN
    -- A key that is not there may be being placed by a resynchronisation that does not see this
    -- transaction.
    WITH gone AS (
        DELETE FROM night.%1$I AS n WHERE n.bucket = p_bucket AND n.%2$s = ANY (p_keys)
        RETURNING n.%2$s AS key
    )
    INSERT INTO night.changed (bucket, relation, key)
        SELECT p_bucket, %1$L, k.key
          FROM (SELECT k.key FROM unnest(p_keys) AS k (key) EXCEPT SELECT g.key FROM gone AS g)
               AS k;
END
$drop$;
    CREATE OR REPLACE FUNCTION night.place_%1$s(p_bucket smallint, p_keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $place$
BEGIN
    INSERT INTO night.%1$I (bucket, %2$s, %3$s)
        SELECT p_bucket, k.key, %4$s FROM unnest(p_keys) AS k (key)
         WHERE NOT EXISTS (SELECT FROM night.%1$I AS n
                            WHERE n.bucket = p_bucket AND n.%2$s = k.key OFFSET 0)
         ORDER BY k.key COLLATE "C"
    ON CONFLICT DO NOTHING;
END
$place$;
$text$, p_relation, v_words.o_key, v_words.o_columns, v_words.o_blank);
END
$$;

-- What brings a relation back from its notes. night_copy.sql tells the order of steps.
CREATE OR REPLACE FUNCTION ni.night_resync_text_v1(p_relation text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_words  record;
    v_source ni.night_source;
BEGIN
    SELECT * INTO STRICT v_source FROM ni.night_source AS s WHERE s.relation = p_relation;
    SELECT * INTO STRICT v_words FROM ni.night_words_v1(p_relation);
    RETURN format($text$
    CREATE OR REPLACE FUNCTION night.resync_%1$s(p_bucket smallint, p_keys text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms'
SET plan_cache_mode = force_generic_plan SET enable_nestloop = on SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $resync$
#variable_conflict use_column
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
    v_got     text[];
    v_key     text;
    v_held    integer := 0;
BEGIN
    BEGIN
        PERFORM night.place_%1$s(p_bucket, p_keys);
    EXCEPTION WHEN lock_not_available THEN
        -- The core is inserting one of them: each by itself, as far as the time goes.
        FOREACH v_key IN ARRAY array_shuffle(p_keys) LOOP
            BEGIN
                PERFORM night.place_%1$s(p_bucket, ARRAY[v_key]);
            EXCEPTION WHEN lock_not_available THEN
                v_held := v_held + 1;
            END;
            EXIT WHEN v_held = 5;
        END LOOP;
    END;
    v_got := ARRAY(SELECT n.%2$s FROM night.%1$I AS n
                    WHERE n.bucket = p_bucket AND n.%2$s = ANY (p_keys)
                    ORDER BY n.%2$s FOR UPDATE SKIP LOCKED);
    -- A later statement than the locks. Copied and deleted in one snapshot, so that every key got
    -- is either what the core has or gone: no placeholder is left.
    WITH c AS MATERIALIZED (
        SELECT * FROM (%4$s FROM %5$s AS r WHERE %6$s AND (%7$s)) AS s WHERE s.bucket = p_bucket
    ), put AS (
        INSERT INTO night.%1$I AS n (bucket, %2$s, %3$s) SELECT * FROM c
        ON CONFLICT (bucket, %2$s) DO UPDATE SET %8$s WHERE %9$s
    )
    DELETE FROM night.%1$I AS n
     WHERE n.bucket = p_bucket
       AND n.%2$s = ANY (ARRAY(SELECT g.key FROM unnest(v_got) AS g (key)
                               EXCEPT SELECT c.key FROM c));
    RETURN v_got;
END
$resync$;
$text$, p_relation, v_words.o_key, v_words.o_columns, v_words.o_select,
        v_source.source,
        format('%s = ANY (v_got::%s[]%s)', coalesce(v_words.o_core_key, '''1'''),
               v_words.o_core_type, v_words.o_collate),
        v_source.condition, v_words.o_set, replace(v_words.o_differs, 'c.', 'excluded.'));
END
$$;

-- A range of keys, compared in one snapshot: those of the core in the core's order, or those of the
-- copy in one bucket, to find what the core lacks. o_after is null at the end.
CREATE OR REPLACE FUNCTION ni.night_compare_text_v1(p_relation text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_words  record;
    v_source ni.night_source;
BEGIN
    SELECT * INTO STRICT v_source FROM ni.night_source AS s WHERE s.relation = p_relation;
    SELECT * INTO STRICT v_words FROM ni.night_words_v1(p_relation);
    RETURN format($text$
    CREATE OR REPLACE FUNCTION night.compare_%1$s(
    p_side text, p_bucket smallint, p_after text, p_limit integer,
    OUT o_rows integer, OUT o_after text, OUT o_buckets smallint[], OUT o_keys text[]
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_nestloop = on SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $compare$
#variable_conflict use_column
DECLARE
    v_buckets smallint := (SELECT i.buckets FROM ni.installation AS i);
BEGIN
    IF p_side = 'core' THEN
        SELECT count(*), (array_agg(c.key ORDER BY c.place DESC))[1],
               array_agg(c.bucket) FILTER (WHERE n.bucket IS NULL OR %9$s),
               array_agg(c.key) FILTER (WHERE n.bucket IS NULL OR %9$s)
          INTO o_rows, o_after, o_buckets, o_keys
          FROM (%3$s, row_number() OVER (%6$s) AS place
                  FROM (SELECT * FROM %4$s AS r WHERE %5$s AND (%8$s) %6$s LIMIT p_limit) AS r)
               AS c
          LEFT JOIN LATERAL (SELECT * FROM night.%1$I AS n
                              WHERE n.bucket = c.bucket AND n.%2$s = c.key OFFSET 0) AS n ON true;
    ELSE
        SELECT count(*), max(n.key), array_agg(p_bucket) FILTER (WHERE c.bucket IS NULL),
               array_agg(n.key) FILTER (WHERE c.bucket IS NULL)
          INTO o_rows, o_after, o_buckets, o_keys
          FROM (SELECT n.%2$s AS key FROM night.%1$I AS n
                 WHERE n.bucket = p_bucket AND n.%2$s > coalesce(p_after, '')
                 ORDER BY n.%2$s LIMIT p_limit) AS n
          LEFT JOIN LATERAL (
            SELECT s.bucket FROM (%3$s FROM %4$s AS r WHERE %7$s AND (%8$s) OFFSET 0) AS s
             WHERE s.bucket = p_bucket) AS c ON true;
    END IF;
    IF o_rows < p_limit THEN
        o_after := NULL;
    END IF;
END
$compare$;
$text$, p_relation, v_words.o_key, v_words.o_select, v_source.source,
        format('(p_after IS NULL OR %s > p_after::%s%s)', coalesce(v_words.o_core_key, '''1'''),
               v_words.o_core_type, v_words.o_collate),
        coalesce('ORDER BY ' || v_words.o_core_key, ''),
        format('%s = n.key::%s%s', coalesce(v_words.o_core_key, '''1'''), v_words.o_core_type,
               v_words.o_collate),
        v_source.condition, v_words.o_differs);
END
$$;

REVOKE EXECUTE ON FUNCTION
    ni.night_words_v1, ni.night_note_text_v1, ni.night_follows_v1, ni.night_follow_text_v1,
    ni.night_place_text_v1, ni.night_resync_text_v1, ni.night_compare_text_v1 FROM public;

-- Where they stood before, they are made anew.
DO $$
BEGIN
    IF to_regprocedure('ni.install_night_copy_v1()') IS NOT NULL THEN
        PERFORM ni.install_night_copy_v1();
    END IF;
END
$$;
