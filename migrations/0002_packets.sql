-- Packets: how postings reach the core.
--
-- A packet's name belongs to its client and is used again day after day; each unload of it is a
-- numbered run. No packet row is written by decisions: a packet exists because postings name it,
-- and its row is made by its first unload. Packets are no account's, so they live in bucket 0.

-- A side that was redirected: a legal reference was for the account that the side had before.
ALTER TABLE ni.posting
    ADD COLUMN unload_number integer,
    ADD COLUMN debit_redirected boolean NOT NULL DEFAULT false,
    ADD COLUMN credit_redirected boolean NOT NULL DEFAULT false;

CREATE INDEX posting_of_packet ON ni.posting (client, packet, posting_id)
    WHERE home AND packet IS NOT NULL;

-- What the core has not booked: a row for each posting until it is booked (and for the cancelled,
-- which never will be). No index of ni.posting asks for the status, and half of each page is
-- free: booking a posting then writes one row version beside the old one and touches no index.
-- The packet is '' for a straight-through posting that has none yet. The internal accounts are
-- kept here because what they have pending is summed when asked.
CREATE TABLE ni.unbooked (
    bucket           smallint NOT NULL,
    posting_id       uuid NOT NULL,
    client           text COLLATE "C" NOT NULL,
    packet           text COLLATE "C" NOT NULL,
    status           text COLLATE "C" NOT NULL,
    straight_through boolean NOT NULL,
    amount           bigint NOT NULL,
    currency         text NOT NULL,
    debit_internal   text COLLATE "C",
    credit_internal  text COLLATE "C",
    link_id          uuid,
    PRIMARY KEY (bucket, client, packet, status, posting_id)
);
CREATE INDEX unbooked_link ON ni.unbooked (client, link_id)
    WHERE link_id IS NOT NULL AND status <> 'cancelled';
CREATE INDEX unbooked_debit ON ni.unbooked (debit_internal) INCLUDE (amount)
    WHERE debit_internal IS NOT NULL AND status <> 'cancelled';
CREATE INDEX unbooked_credit ON ni.unbooked (credit_internal) INCLUDE (amount)
    WHERE credit_internal IS NOT NULL AND status <> 'cancelled';
CREATE INDEX unbooked_straight_through ON ni.unbooked (packet, posting_id)
    WHERE straight_through AND status = 'pending';

INSERT INTO ni.unbooked
    SELECT p.bucket, p.posting_id, p.client, coalesce(p.packet, ''), p.status,
           p.straight_through, p.amount, p.currency,
           CASE WHEN NOT p.debit_customer THEN p.debit_account END,
           CASE WHEN NOT p.credit_customer THEN p.credit_account END, p.link_id
      FROM ni.posting AS p
     WHERE p.home AND p.status <> 'booked';
DROP INDEX ni.posting_pending_debit, ni.posting_pending_credit;
ALTER TABLE ni.posting SET (fillfactor = 50);
-- These change with every packet; they too find their place beside the old row. What a name must
-- look like is tested when it is written, not again with each balance.
ALTER TABLE ni.applied SET (fillfactor = 50);
ALTER TABLE core.account SET (fillfactor = 50),
    DROP CONSTRAINT account_account_check, DROP CONSTRAINT account_currency_check;
CREATE FUNCTION core.refuse_account_name() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'account % in %: no name of an account, or of a currency',
        new.account, new.currency USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER refuse_account_name BEFORE INSERT OR UPDATE OF account, currency ON core.account
    FOR EACH ROW WHEN (new.account !~ '^[A-Z0-9-]{1,34}$' OR new.currency !~ '^[A-Z]{3}$')
    EXECUTE FUNCTION core.refuse_account_name();

-- Like ni.gate: unloads hold it ROW SHARE, the close of the day EXCLUSIVE.
CREATE TABLE ni.unload_gate (CHECK (false));

CREATE TABLE ni.packet (
    bucket      smallint NOT NULL,
    client      text COLLATE "C" NOT NULL,
    packet      text COLLATE "C" NOT NULL,
    last_number integer NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (bucket, client, packet)
);

-- One row a run. verdict_* tell what the core was when the postings were tested: a change of the
-- core that this snapshot does not see came after the verdict. A run that waited is tested a second
-- time when it is accepted: decided_* tell of that.
CREATE TABLE ni.unload (
    bucket           smallint NOT NULL,
    client           text COLLATE "C" NOT NULL,
    packet           text COLLATE "C" NOT NULL,
    number           integer NOT NULL,
    status           text NOT NULL CHECK (status IN
                     ('booked', 'partly_booked', 'none_booked', 'awaiting_acceptance',
                      'rejected')),
    accepted         boolean NOT NULL,
    unloaded_by      text NOT NULL,
    verdict_at       timestamptz NOT NULL,
    verdict_snapshot pg_snapshot NOT NULL,
    business_date    date NOT NULL,
    booked           integer NOT NULL,
    problems         integer NOT NULL,
    totals           jsonb NOT NULL,
    core_packet_id   bigint,
    decided_by       text,
    decided_at       timestamptz,
    decided_snapshot pg_snapshot,
    actor            text,
    reason           text,
    PRIMARY KEY (bucket, client, packet, number)
);
CREATE INDEX unload_waiting ON ni.unload (client, packet)
    WHERE status = 'awaiting_acceptance';

-- What the core could not book, each time with its reason, and how it was resolved.
CREATE TABLE ni.problem (
    bucket      smallint NOT NULL,
    posting_id  uuid NOT NULL,
    raised_at   timestamptz NOT NULL,
    client      text COLLATE "C" NOT NULL,
    packet      text COLLATE "C" NOT NULL,
    number      integer NOT NULL,
    code        text NOT NULL,
    detail      text NOT NULL,
    resolved_at timestamptz,
    action      text CHECK (action IN ('retry', 'cancel', 'redirect')),
    reason      text,
    resolved_by text,
    actor       text,
    PRIMARY KEY (bucket, posting_id, raised_at)
);
CREATE INDEX problem_of_run ON ni.problem (client, packet, number);
CREATE INDEX problem_open ON ni.problem (raised_at, posting_id) WHERE resolved_at IS NULL;

-- Events of packets and of booked postings concern no account's available balance.
ALTER TABLE ni.outbox
    ALTER COLUMN account DROP NOT NULL,
    ALTER COLUMN sequence DROP NOT NULL,
    ALTER COLUMN movement_id DROP NOT NULL,
    ALTER COLUMN currency DROP NOT NULL,
    ALTER COLUMN amount DROP NOT NULL,
    ALTER COLUMN direction DROP NOT NULL,
    ALTER COLUMN available_after DROP NOT NULL,
    ADD COLUMN packet text,
    ADD COLUMN packet_number integer,
    ADD COLUMN detail text;

-- The core's side: a packet that is not accepted waits, and its entries do not count.
ALTER TABLE core.packet
    ADD COLUMN status text NOT NULL DEFAULT 'accepted'
        CHECK (status IN ('accepted', 'waiting', 'rejected')),
    DROP COLUMN accepted;
-- A packet's entries lie side by side, so a few bytes a block range find them.
ALTER TABLE core.entry
    DROP CONSTRAINT entry_packet_id_fkey,
    ADD COLUMN link_id uuid;
-- One index for both: entries are looked for by account, and their ids are unique by themselves.
DROP INDEX core.entry_by_account;
ALTER TABLE core.entry
    DROP CONSTRAINT entry_pkey,
    ADD PRIMARY KEY (account, entry_id);
CREATE INDEX entry_by_packet ON core.entry USING brin (packet_id) WITH (pages_per_range = 16);

-- NI's packets and their entries come, change and go through NI alone: accepted behind its back, a
-- packet would count in the core and in NI. The core's own entries name no packet and no posting.
CREATE FUNCTION core.refuse_packet_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'packets of NI are unloaded, accepted and rejected through NI alone'
        USING HINT = 'ni packet unload, ni packet accept, ni packet reject';
END
$$;
CREATE TRIGGER refuse_packet_change BEFORE INSERT OR UPDATE OR DELETE ON core.packet
    FOR EACH ROW WHEN (current_user <> 'ni_owner')
    EXECUTE FUNCTION core.refuse_packet_change();
CREATE FUNCTION core.refuse_entry_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'entries of NI''s packets come, change and go through NI alone';
END
$$;
CREATE TRIGGER refuse_entry BEFORE INSERT ON core.entry
    FOR EACH ROW WHEN (num_nonnulls(new.packet_id, new.posting_id) > 0
                       AND current_user <> 'ni_owner')
    EXECUTE FUNCTION core.refuse_entry_change();
CREATE TRIGGER refuse_entry_change BEFORE UPDATE ON core.entry
    FOR EACH ROW WHEN (num_nonnulls(old.packet_id, old.posting_id, new.packet_id,
                                    new.posting_id) > 0
                       AND current_user <> 'ni_owner')
    EXECUTE FUNCTION core.refuse_entry_change();
CREATE TRIGGER refuse_entry_removal BEFORE DELETE ON core.entry
    FOR EACH ROW WHEN (num_nonnulls(old.packet_id, old.posting_id) > 0
                       AND current_user <> 'ni_owner')
    EXECUTE FUNCTION core.refuse_entry_change();

CREATE TYPE ni.account_net_v1 AS (
    account text, customer boolean, currency text, amount bigint, debited boolean,
    credited boolean
);
CREATE TYPE ni.resolution_v1 AS (
    posting_id uuid, resolved_at timestamptz, action text, reason text, resolved_by text,
    actor text
);
CREATE TYPE ni.straight_through_v1 AS (
    bucket smallint, posting_id uuid, client text, currency text, link_id uuid
);
CREATE TYPE ni.verdict_v1 AS (posting_id uuid, code text, detail text);

GRANT SELECT, INSERT ON ni.unload_gate TO ni_engine;
GRANT SELECT ON ni.packet, ni.unload TO ni_engine;
GRANT SELECT, UPDATE ON ni.problem TO ni_engine;
GRANT SELECT, INSERT, UPDATE ON ni.unbooked TO ni_engine;
