-- Texts to customers: who wants them, which events have been seen, and every message until it is
-- sent, with what became of it. The notifier's role ni_sms touches these tables and no other.
--
--   ni.sms_subscription  who wants texts about which account; the operator's, read by the notifier
--   ni.sms_inbox         the events of subscribed accounts that have been taken, told or not, so
--                        that a repeat is dropped and a missing one is waited for
--   ni.sms_message       what is told: rendered once, never changed, sent until it is accepted
--   ni.sms_account       one row an account: whose turn it is, and how far its messages have got
--
-- Lock order: rows of ni.sms_account by (bucket, account), then what is of that account alone. The
-- row's lock makes an account's messages go one after the other; no account waits for another.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'ni_sms') THEN
        RAISE EXCEPTION 'the role ni_sms is missing'
            USING HINT = 'as a superuser: CREATE ROLE ni_sms LOGIN PASSWORD ...';
    END IF;
END
$$;

CREATE TABLE ni.sms_subscription (
    bucket   smallint NOT NULL,
    account  text COLLATE "C" NOT NULL CHECK (account ~ '^[A-Z0-9-]{1,34}$'),
    phone    text NOT NULL CHECK (phone ~ '^\+[1-9][0-9]{6,14}$'),
    language text NOT NULL CHECK (language IN ('en', 'ja', 'ru')),
    types    text[] NOT NULL CHECK (cardinality(types) BETWEEN 1 AND 100),
    since    timestamptz NOT NULL,
    PRIMARY KEY (bucket, account)
);

CREATE TABLE ni.sms_inbox (
    bucket     smallint NOT NULL,
    event_id   uuid NOT NULL,
    account    text COLLATE "C" NOT NULL,
    sequence   bigint,
    event_time timestamptz NOT NULL,
    taken_at   timestamptz NOT NULL,
    PRIMARY KEY (bucket, event_id)
);
CREATE INDEX sms_inbox_by_age ON ni.sms_inbox (event_time);
CREATE INDEX sms_inbox_by_account ON ni.sms_inbox (bucket, account, sequence);

-- What the inbox has forgotten: an event from before this instant is never sent.
CREATE TABLE ni.sms_inbox_floor (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    event_time timestamptz NOT NULL
);
INSERT INTO ni.sms_inbox_floor (event_time) VALUES ('-infinity');

-- `tries` makes pauses longer; `failures` are the tries that may be the message's own fault. A try
-- changes no column of an index, so that it leaves no dead entry in one; `changed_at` is when the
-- status changed last. 'waiting' comes and goes under the lock of the account's row alone.
CREATE TABLE ni.sms_message (
    bucket     smallint NOT NULL,
    event_id   uuid NOT NULL,
    account    text COLLATE "C" NOT NULL,
    sequence   bigint,
    type       text NOT NULL,
    event_time timestamptz NOT NULL,
    phone      text NOT NULL,
    language   text NOT NULL,
    text       text NOT NULL,
    late       boolean NOT NULL,
    status     text NOT NULL CHECK (status IN ('waiting', 'sent', 'kept', 'dead')),
    reason     text,
    tries      integer NOT NULL DEFAULT 0,
    failures   integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    taken_at   timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, event_id)
) WITH (fillfactor = 85);
CREATE INDEX sms_message_waiting ON ni.sms_message (bucket, account, event_time, sequence, event_id)
    WHERE status = 'waiting';
CREATE INDEX sms_message_by_time ON ni.sms_message (event_time);
CREATE INDEX sms_message_done ON ni.sms_message (changed_at) WHERE status <> 'waiting';

-- `due_at`: when the account's next message may be tried, or when the lease ends under which one is
-- being tried; null: none waits. `last_…`: the furthest message that a sender has ever taken.
-- `seen_sequence`: every change up to this one has been taken; `waits`: the next one is missing.
-- `first_time`: no message waits from before it; so those that are done, whose dead entries stay in
-- the index for as long as anybody's transaction is open, are not walked again and again.
CREATE TABLE ni.sms_account (
    bucket        smallint NOT NULL,
    account       text COLLATE "C" NOT NULL,
    due_at        timestamptz,
    lease         uuid,
    last_sequence bigint NOT NULL DEFAULT 0,
    last_time     timestamptz NOT NULL DEFAULT '-infinity',
    seen_sequence bigint,
    waits         boolean NOT NULL DEFAULT false,
    first_time    timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (bucket, account)
) WITH (fillfactor = 70);
CREATE INDEX sms_account_due ON ni.sms_account (bucket, due_at) WHERE due_at IS NOT NULL;

-- An event and its text, null where the customer does not want to be told of it. `late_text` is
-- taken instead of `text` when a later message of the account has gone before.
CREATE TYPE ni.sms_event_v1 AS (
    event_id uuid, account text, sequence bigint, type text, event_time timestamptz, phone text,
    language text, text text, late_text text
);

-- A message that has been given out to be sent; `tries` and `failures` count this time.
CREATE TYPE ni.sms_leased_v1 AS (
    event_id uuid, account text, phone text, text text, tries integer, failures integer, lease uuid
);

GRANT USAGE ON SCHEMA ni TO ni_sms;
GRANT SELECT ON ni.installation, ni.sms_subscription TO ni_sms;
GRANT SELECT, INSERT, DELETE ON ni.sms_inbox TO ni_sms;
GRANT SELECT, UPDATE ON ni.sms_inbox_floor TO ni_sms;
GRANT SELECT, INSERT, UPDATE, DELETE ON ni.sms_message, ni.sms_account TO ni_sms;
