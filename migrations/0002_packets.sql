-- Packets: how postings reach the core.
--
-- A packet's name belongs to its client and is used again day after day; each unload of it is a
-- numbered run. No packet row is written by decisions: a packet exists because postings name it,
-- and its row is made by its first unload. Packets are no account's, so they live in bucket 0.

ALTER TABLE ni.posting ADD COLUMN unload_number integer;

CREATE INDEX posting_of_packet ON ni.posting (client, packet, posting_id)
    WHERE home AND packet IS NOT NULL;
-- What a run takes, and what a packet still owes the core; small, for booked rows leave it.
CREATE INDEX posting_unbooked ON ni.posting (client, packet, status)
    WHERE home AND packet IS NOT NULL
      AND status IN ('pending', 'awaiting_acceptance', 'problem');
CREATE INDEX posting_cancelled ON ni.posting (client, packet)
    WHERE home AND packet IS NOT NULL AND status = 'cancelled';
CREATE INDEX posting_straight_through ON ni.posting (posting_id)
    WHERE home AND straight_through AND status = 'pending';

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
-- core that this snapshot does not see came after the verdict.
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
CREATE INDEX entry_by_packet ON core.entry USING brin (packet_id) WITH (pages_per_range = 16);

CREATE FUNCTION core.refuse_packet_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_user <> 'ni_owner' THEN
        RAISE EXCEPTION 'packets of NI are accepted and rejected through NI alone'
            USING HINT = 'ni packet accept, ni packet reject';
    END IF;
    RETURN coalesce(new, old);
END
$$;
CREATE TRIGGER refuse_packet_change BEFORE UPDATE OR DELETE ON core.packet
    FOR EACH ROW EXECUTE FUNCTION core.refuse_packet_change();
CREATE FUNCTION core.refuse_entry_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_user <> 'ni_owner' AND old.packet_id IS NOT NULL THEN
        RAISE EXCEPTION 'entries of NI''s packets change through NI alone';
    END IF;
    RETURN coalesce(new, old);
END
$$;
CREATE TRIGGER refuse_entry_change BEFORE UPDATE OR DELETE ON core.entry
    FOR EACH ROW EXECUTE FUNCTION core.refuse_entry_change();

CREATE TYPE ni.taken_posting_v1 AS (
    bucket smallint, posting_id uuid, client text, debit_account text, credit_account text,
    debit_customer boolean, credit_customer boolean, amount bigint, currency text,
    value_date date, link_id uuid, reference text, narrative text, legal_reference text
);
CREATE TYPE ni.resolution_v1 AS (
    posting_id uuid, resolved_at timestamptz, action text, reason text, resolved_by text,
    actor text
);
CREATE TYPE ni.verdict_v1 AS (posting_id uuid, code text, detail text);

GRANT SELECT, INSERT ON ni.unload_gate TO ni_engine;
GRANT SELECT ON ni.packet, ni.unload TO ni_engine;
GRANT SELECT, UPDATE ON ni.problem TO ni_engine;
