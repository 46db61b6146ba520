-- Functions of this session alone: they quote names and passwords where DDL takes no parameters.
CREATE OR REPLACE FUNCTION pg_temp.prepare_role(role_name text, secret text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
        EXECUTE format('CREATE ROLE %I', role_name);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION '
                   'NOBYPASSRLS PASSWORD %L', role_name, secret);
    IF role_name = 'ni_engine' THEN
        -- Whoever looks for a deadlock first gives way, and that must never be the core.
        ALTER ROLE ni_engine SET deadlock_timeout = '20ms';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pg_temp.prepare_database_rights(name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO ni_owner', name);
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ni_engine, ni_core, ni_sms', name);
END
$$;

CREATE OR REPLACE FUNCTION pg_temp.create_database_text(name text) RETURNS text
LANGUAGE sql AS $$
    SELECT format('CREATE DATABASE %I OWNER ni_owner TEMPLATE template0 ENCODING ''UTF8'' '
                  'LOCALE ''C'' LOCALE_PROVIDER builtin BUILTIN_LOCALE ''C.UTF-8''', name)
$$;
