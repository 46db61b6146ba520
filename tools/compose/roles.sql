-- NI's roles, made once by the database container: see docs/how-to/run-in-production.md.
\set ON_ERROR_STOP on
\set owner_password `cat /run/secrets/ni_owner_password`
\set engine_password `cat /run/secrets/ni_engine_password`
\set core_password `cat /run/secrets/ni_core_password`
\set sms_password `cat /run/secrets/ni_sms_password`
CREATE ROLE ni_owner  LOGIN PASSWORD :'owner_password';
CREATE ROLE ni_engine LOGIN PASSWORD :'engine_password';
CREATE ROLE ni_core   LOGIN PASSWORD :'core_password';
CREATE ROLE ni_sms    LOGIN PASSWORD :'sms_password';
GRANT CONNECT, CREATE ON DATABASE bank TO ni_owner;
GRANT CONNECT ON DATABASE bank TO ni_engine, ni_core, ni_sms;
REVOKE TEMPORARY ON DATABASE bank FROM PUBLIC;
ALTER ROLE ni_engine SET deadlock_timeout = '20ms';
