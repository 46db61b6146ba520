-- NI's schema: what has happened and has not reached the core yet.
--
--   ni.*           the engine's own: locks, figures, movements, requests, events
--   core.*         the reference core ledger; a bank with its own core replaces it
--   night.*        the copy that serves while the core is closed
--   day_alias.*    views of the same names over core.* and over night.*; a session's search_path
--   night_alias.*  says which of the two it means, and nothing else tells day from night
--
-- Every customer account has three rows that matter:
--   ni.position    only a lock. Inserted once, locked by whoever decides, never updated.
--   ni.state       the figures a decision changes: created, held, sequence.
--   ni.applied     what the core has booked of `created`; raised by unloading, never by a decision.
-- available = base balance + credit limit + (created - applied) - held
--
-- Lock order, the only one: gate, positions by (bucket, account), hold and posting rows by id,
-- request keys by (client, key), then nothing that waits. Text is COLLATE "C" so that the database
-- alone sorts it.
--
-- Every account-sized table begins its primary key with the bucket and has no foreign key, so that
-- it can be spread over nodes and so that no decision waits for a row of another table.
-- Money is bigint minor units of the row's currency; every balance is credit-positive.

CREATE SCHEMA ni;
CREATE SCHEMA core;
CREATE SCHEMA night;
CREATE SCHEMA day_alias;
CREATE SCHEMA night_alias;

-- The reference core ledger ------------------------------------------------------------------

CREATE TABLE core.ledger (
    one                boolean PRIMARY KEY DEFAULT true CHECK (one),
    business_date      date NOT NULL,
    next_business_date date NOT NULL CHECK (next_business_date > business_date)
);

-- One row for each business date that has ended. It is written in the commit that raises the date,
-- so that an end of day which is called twice finds out.
CREATE TABLE core.end_of_day (
    business_date      date PRIMARY KEY,
    next_business_date date NOT NULL CHECK (next_business_date > business_date),
    ended_at           timestamptz NOT NULL,
    ni_epoch           integer NOT NULL,
    accounts           bigint NOT NULL,
    entries            bigint NOT NULL
);

CREATE TABLE core.account (
    account      text COLLATE "C" PRIMARY KEY CHECK (account ~ '^[A-Z0-9-]{1,34}$'),
    kind         text NOT NULL CHECK (kind IN ('customer', 'internal', 'off_balance')),
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'closed')),
    balance      bigint NOT NULL DEFAULT 0
                 CHECK (balance BETWEEN -100000000000000000 AND 100000000000000000),
    credit_limit bigint NOT NULL DEFAULT 0
                 CHECK (credit_limit BETWEEN 0 AND 100000000000000000),
    customer_id  text,
    opened_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE core.block (
    block_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account         text COLLATE "C" NOT NULL REFERENCES core.account,
    side            text NOT NULL CHECK (side IN ('debit', 'credit', 'all')),
    legal_reference text NOT NULL,
    valid_from      timestamptz NOT NULL,
    valid_to        timestamptz CHECK (valid_to > valid_from)
);
CREATE INDEX block_by_account ON core.block (account);

CREATE TABLE core.packet (
    packet_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client    text COLLATE "C" NOT NULL,
    packet    text COLLATE "C" NOT NULL,
    number    integer NOT NULL,
    accepted  boolean NOT NULL,
    booked_at timestamptz NOT NULL
);

CREATE TABLE core.entry (
    entry_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    packet_id       bigint REFERENCES core.packet,
    account         text COLLATE "C" NOT NULL,
    amount          bigint NOT NULL,
    currency        text NOT NULL,
    value_date      date NOT NULL,
    business_date   date NOT NULL,
    booked_at       timestamptz NOT NULL,
    narrative       text,
    reference       text,
    legal_reference text,
    posting_id      uuid
);
CREATE INDEX entry_by_account ON core.entry (account, entry_id);

-- The night copy: the columns that a base needs ------------------------------------------------

CREATE TABLE night.ledger (
    one                boolean PRIMARY KEY DEFAULT true CHECK (one),
    business_date      date NOT NULL,
    next_business_date date NOT NULL
);

CREATE TABLE night.account (
    bucket       smallint NOT NULL,
    account      text COLLATE "C" NOT NULL,
    kind         text NOT NULL,
    currency     text NOT NULL,
    status       text NOT NULL,
    balance      bigint NOT NULL,
    credit_limit bigint NOT NULL,
    PRIMARY KEY (bucket, account)
);
CREATE INDEX account_by_name ON night.account (account);

CREATE TABLE night.block (
    bucket          smallint NOT NULL,
    block_id        bigint NOT NULL,
    account         text COLLATE "C" NOT NULL,
    side            text NOT NULL,
    legal_reference text NOT NULL,
    valid_from      timestamptz NOT NULL,
    valid_to        timestamptz,
    PRIMARY KEY (bucket, block_id)
);
CREATE INDEX block_by_account ON night.block (account);

CREATE VIEW day_alias.account AS
    SELECT account, kind, currency, status, balance, credit_limit FROM core.account;
CREATE VIEW day_alias.block AS
    SELECT account, side, legal_reference, valid_from, valid_to FROM core.block;
CREATE VIEW day_alias.ledger AS
    SELECT business_date, next_business_date FROM core.ledger;
CREATE VIEW night_alias.account AS
    SELECT account, kind, currency, status, balance, credit_limit FROM night.account;
CREATE VIEW night_alias.block AS
    SELECT account, side, legal_reference, valid_from, valid_to FROM night.block;
CREATE VIEW night_alias.ledger AS
    SELECT business_date, next_business_date FROM night.ledger;

-- The engine's own -----------------------------------------------------------------------------

CREATE TABLE ni.installation (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    buckets smallint NOT NULL CHECK (buckets BETWEEN 1 AND 1024)
);

-- The mode of the whole engine: one row.
CREATE TABLE ni.mode (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    mode  text NOT NULL CHECK (mode IN ('day', 'night')),
    epoch integer NOT NULL,
    since timestamptz NOT NULL
);
INSERT INTO ni.mode (mode, epoch, since) VALUES ('day', 1, clock_timestamp());

-- Nothing is ever stored here: whoever names a base relation locks it ROW SHARE, the switch of
-- the mode EXCLUSIVE.
CREATE TABLE ni.gate (CHECK (false));

CREATE TABLE ni.client (
    client      text COLLATE "C" PRIMARY KEY CHECK (client ~ '^[A-Za-z0-9._-]{1,64}$'),
    key_hash    bytea NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    scopes      text[] NOT NULL,
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz
);

CREATE TABLE ni.position (
    bucket  smallint NOT NULL,
    account text COLLATE "C" NOT NULL,
    PRIMARY KEY (bucket, account)
);

-- Updated in place, but every 128th change of an account starts a row of the next era: the core's
-- end of day keeps a transaction open for hours, dead row versions stay until it ends, and a
-- look-up of the newest era walks at most one era of them.
CREATE TABLE ni.state (
    bucket      smallint NOT NULL,
    account     text COLLATE "C" NOT NULL,
    era         bigint NOT NULL,
    created     bigint NOT NULL,
    held        bigint NOT NULL CHECK (held >= 0),
    sequence    bigint NOT NULL,
    decided_at  timestamptz NOT NULL,
    next_expiry timestamptz,
    PRIMARY KEY (bucket, account, era)
) WITH (fillfactor = 70);

CREATE TABLE ni.applied (
    bucket  smallint NOT NULL,
    account text COLLATE "C" NOT NULL,
    applied bigint NOT NULL,
    PRIMARY KEY (bucket, account)
) WITH (fillfactor = 70);

CREATE TABLE ni.hold (
    bucket            smallint NOT NULL,
    hold_id           uuid NOT NULL,
    client            text COLLATE "C" NOT NULL,
    account           text COLLATE "C" NOT NULL,
    currency          text NOT NULL,
    amount            bigint NOT NULL CHECK (amount > 0),
    captured          bigint NOT NULL CHECK (captured >= 0),
    released          bigint NOT NULL CHECK (released >= 0),
    status            text NOT NULL,
    kind              text NOT NULL,
    expires_at        timestamptz,
    reference         text,
    narrative         text,
    actor             text,
    original_amount   bigint,
    original_currency text,
    legal_reference   text,
    available_after   bigint NOT NULL,
    sequence          bigint NOT NULL,
    epoch             integer NOT NULL,
    created_at        timestamptz NOT NULL,
    changed_at        timestamptz NOT NULL,
    PRIMARY KEY (bucket, hold_id)
) WITH (fillfactor = 80);
CREATE INDEX hold_by_account ON ni.hold (bucket, account, hold_id);
CREATE INDEX hold_expiring ON ni.hold (bucket, account, expires_at)
    WHERE status = 'active' AND expires_at IS NOT NULL;
-- For the sweep over all accounts. The predicate says more than the one above, so that no look-up
-- of one account can be planned as a walk through this index.
CREATE INDEX hold_due ON ni.hold (expires_at)
    WHERE status = 'active' AND expires_at IS NOT NULL AND amount > 0;
CREATE INDEX hold_by_reference ON ni.hold (bucket, reference, hold_id)
    WHERE reference IS NOT NULL;

-- `home` is false for the second row of a posting between customers of two buckets: it is there
-- for the movements of the other customer and follows the first one's status.
CREATE TABLE ni.posting (
    bucket                 smallint NOT NULL,
    posting_id             uuid NOT NULL,
    home                   boolean NOT NULL,
    client                 text COLLATE "C" NOT NULL,
    type                   text NOT NULL,
    debit_account          text COLLATE "C" NOT NULL,
    credit_account         text COLLATE "C" NOT NULL,
    debit_customer         boolean NOT NULL,
    credit_customer        boolean NOT NULL,
    amount                 bigint NOT NULL CHECK (amount > 0),
    currency               text NOT NULL,
    packet                 text COLLATE "C",
    straight_through       boolean NOT NULL,
    status                 text NOT NULL,
    check_mode             text NOT NULL,
    value_date             date NOT NULL,
    valid_from             timestamptz NOT NULL,
    link_id                uuid,
    hold_id                uuid,
    reference              text,
    narrative              text,
    actor                  text,
    legal_reference        text,
    debit_available_after  bigint,
    debit_sequence         bigint,
    credit_available_after bigint,
    credit_sequence        bigint,
    epoch                  integer NOT NULL,
    created_at             timestamptz NOT NULL,
    changed_at             timestamptz NOT NULL,
    change_reason          text,
    change_actor           text,
    PRIMARY KEY (bucket, posting_id)
) WITH (fillfactor = 85);
CREATE INDEX posting_by_debit_account ON ni.posting (bucket, debit_account, posting_id);
CREATE INDEX posting_by_credit_account ON ni.posting (bucket, credit_account, posting_id);
CREATE INDEX posting_by_reference ON ni.posting (bucket, reference, posting_id)
    WHERE reference IS NOT NULL;
-- What internal accounts have pending is summed when asked; these two cover the sum.
CREATE INDEX posting_pending_debit ON ni.posting (bucket, debit_account) INCLUDE (amount)
    WHERE home AND NOT debit_customer AND status IN ('pending', 'awaiting_acceptance', 'problem');
CREATE INDEX posting_pending_credit ON ni.posting (bucket, credit_account) INCLUDE (amount)
    WHERE home AND NOT credit_customer AND status IN ('pending', 'awaiting_acceptance', 'problem');

CREATE TABLE ni.request (
    bucket      smallint NOT NULL,
    client      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    decision    smallint NOT NULL,
    document    text NOT NULL,
    decided_at  timestamptz NOT NULL,
    PRIMARY KEY (bucket, client, key)
);
-- Requests arrive in the order of decided_at, so a few bytes a block range find the old ones.
CREATE INDEX request_by_age ON ni.request USING brin (decided_at);

-- One row an event; what it says is derived from these columns when it is delivered.
CREATE TABLE ni.outbox (
    bucket          smallint NOT NULL,
    event_id        uuid NOT NULL,
    type            text NOT NULL,
    account         text COLLATE "C" NOT NULL,
    sequence        bigint NOT NULL,
    epoch           integer NOT NULL,
    client          text NOT NULL,
    movement_id     uuid NOT NULL,
    currency        text NOT NULL,
    amount          bigint NOT NULL,
    direction       smallint NOT NULL,
    available_after bigint NOT NULL,
    reference       text,
    narrative       text,
    PRIMARY KEY (bucket, event_id)
) WITH (vacuum_truncate = off);

-- What the hot functions speak. A type's columns never change; a new version of a function brings
-- new types.
CREATE TYPE ni.account_view_v1 AS (
    account text, kind text, currency text, status text, base bigint, credit_limit bigint,
    debit_blocked boolean, credit_blocked boolean, applied bigint, era bigint, created bigint,
    held bigint, sequence bigint, next_expiry timestamptz, following_expiry timestamptz,
    expired bigint
);
CREATE TYPE ni.block_view_v1 AS (
    side text, legal_reference text, valid_from timestamptz, valid_to timestamptz
);
CREATE TYPE ni.request_view_v1 AS (
    client text, key text, fingerprint bytea, decision smallint, document text
);
CREATE TYPE ni.state_change_v1 AS (
    account text, era bigint, created bigint, held bigint, sequence bigint,
    decided_at timestamptz, next_expiry timestamptz
);
CREATE TYPE ni.hold_change_v1 AS (
    hold_id uuid, from_status text, status text, amount bigint, captured bigint, released bigint,
    expires_at timestamptz, available_after bigint, sequence bigint, epoch integer,
    changed_at timestamptz
);
CREATE TYPE ni.new_hold_v1 AS (
    hold_id uuid, client text, account text, currency text, amount bigint, captured bigint,
    released bigint, status text, kind text, expires_at timestamptz, reference text,
    narrative text, actor text, original_amount bigint, original_currency text,
    legal_reference text, available_after bigint, sequence bigint, epoch integer,
    created_at timestamptz
);
CREATE TYPE ni.new_posting_v1 AS (
    posting_id uuid, home boolean, client text, type text, debit_account text,
    credit_account text, debit_customer boolean, credit_customer boolean, amount bigint,
    currency text, packet text, straight_through boolean, check_mode text,
    value_date date, valid_from timestamptz, link_id uuid, hold_id uuid, reference text,
    narrative text, actor text, legal_reference text, debit_available_after bigint,
    debit_sequence bigint, credit_available_after bigint, credit_sequence bigint, epoch integer,
    created_at timestamptz, debit_event_id uuid, credit_event_id uuid
);
-- `entering`: the posting as it is now, in a bucket that a redirect has brought it to.
CREATE TYPE ni.posting_change_v1 AS (
    posting_id uuid, from_status text, status text, debit_account text, credit_account text,
    debit_customer boolean, credit_customer boolean, debit_redirected boolean,
    credit_redirected boolean, debit_available_after bigint, debit_sequence bigint,
    credit_available_after bigint, credit_sequence bigint, epoch integer,
    changed_at timestamptz, change_reason text, change_actor text, entering ni.new_posting_v1
);
CREATE TYPE ni.new_request_v1 AS (
    client text, key text, fingerprint bytea, decision smallint, document text,
    decided_at timestamptz
);
CREATE TYPE ni.new_event_v1 AS (
    event_id uuid, type text, account text, sequence bigint, epoch integer, client text,
    movement_id uuid, currency text, amount bigint, direction smallint, available_after bigint,
    reference text, narrative text
);

-- Rights ---------------------------------------------------------------------------------------
-- ni_engine decides: it may add movements and change what a decision changes, and delete nothing
-- but old eras and old requests. It reads the base through the aliases alone.

GRANT USAGE ON SCHEMA ni, day_alias, night_alias TO ni_engine;
GRANT SELECT ON ALL TABLES IN SCHEMA day_alias, night_alias TO ni_engine;
GRANT SELECT ON ni.installation, ni.mode, ni.client, ni.applied TO ni_engine;
GRANT SELECT, INSERT ON ni.gate TO ni_engine;  -- the right to lock it ROW SHARE
GRANT SELECT, INSERT, UPDATE ON ni.position, ni.hold, ni.posting TO ni_engine;
GRANT SELECT, INSERT, UPDATE, DELETE ON ni.state TO ni_engine;
GRANT SELECT, INSERT, DELETE ON ni.request TO ni_engine;
GRANT SELECT, INSERT ON ni.outbox TO ni_engine;

GRANT USAGE ON SCHEMA core TO ni_core;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA core TO ni_core;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA core TO ni_core;
