-- Events: how they leave.
--
-- An event is written into ni.outbox by the transaction that makes it, and taken out by the relay
-- when it is delivered. Rows that are only deleted leave dead versions behind for as long as
-- anybody in the database has a transaction open; the core's end of day has one for hours. So the
-- outbox has laps: rows go into the lap of the second in which they are written, each lap lasts
-- eight seconds, and the relay empties the file of a past lap in which nothing waits any more. See
-- docs/decisions/0021-the-outbox-runs-in-laps.md.

ALTER TABLE ni.outbox RENAME TO outbox_before;
ALTER TABLE ni.outbox_before RENAME CONSTRAINT outbox_pkey TO outbox_before_pkey;

-- debit_account, credit_account: of a booked posting and of a problem. hold_id, hold_remaining: of
-- a capture, whose movement is the posting. The lap is taken from the server's own clock and not
-- from ni.clock(), which tests set: it says where a row lies, nothing else. Lap 8 holds what nobody
-- takes, lap 9 what runs of packets write.
CREATE TABLE ni.outbox (
    bucket          smallint NOT NULL,
    event_id        uuid NOT NULL,
    type            text NOT NULL,
    account         text COLLATE "C",
    sequence        bigint,
    epoch           integer NOT NULL,
    client          text NOT NULL,
    movement_id     uuid,
    currency        text,
    amount          bigint,
    direction       smallint,
    available_after bigint,
    reference       text,
    narrative       text,
    packet          text,
    packet_number   integer,
    detail          text,
    debit_account   text,
    credit_account  text,
    hold_id         uuid,
    hold_remaining  bigint,
    lap             smallint NOT NULL
                    DEFAULT (date_part('epoch', clock_timestamp())::bigint >> 3 & 7)::smallint,
    PRIMARY KEY (bucket, event_id, lap)
) PARTITION BY LIST (lap);
CREATE TABLE ni.outbox_0 PARTITION OF ni.outbox FOR VALUES IN (0) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_1 PARTITION OF ni.outbox FOR VALUES IN (1) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_2 PARTITION OF ni.outbox FOR VALUES IN (2) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_3 PARTITION OF ni.outbox FOR VALUES IN (3) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_4 PARTITION OF ni.outbox FOR VALUES IN (4) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_5 PARTITION OF ni.outbox FOR VALUES IN (5) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_6 PARTITION OF ni.outbox FOR VALUES IN (6) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_7 PARTITION OF ni.outbox FOR VALUES IN (7) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_8 PARTITION OF ni.outbox FOR VALUES IN (8) WITH (vacuum_truncate = off);
CREATE TABLE ni.outbox_9 PARTITION OF ni.outbox FOR VALUES IN (9) WITH (vacuum_truncate = off);

INSERT INTO ni.outbox (bucket, event_id, type, account, sequence, epoch, client, movement_id,
                       currency, amount, direction, available_after, reference, narrative,
                       packet, packet_number, detail)
    SELECT b.bucket, b.event_id, b.type, b.account, b.sequence, b.epoch, b.client, b.movement_id,
           b.currency, b.amount, b.direction, b.available_after, b.reference, b.narrative,
           b.packet, b.packet_number, b.detail
      FROM ni.outbox_before AS b;
DROP TABLE ni.outbox_before;
GRANT SELECT, INSERT ON ni.outbox TO ni_engine;

-- As ni.new_event_v1, and of a capture the hold and what remains of it.
CREATE TYPE ni.new_event_v2 AS (
    event_id uuid, type text, account text, sequence bigint, epoch integer, client text,
    movement_id uuid, currency text, amount bigint, direction smallint, available_after bigint,
    reference text, narrative text, hold_id uuid, hold_remaining bigint
);

-- Refused debits, told where NI_REFUSED_EVENTS is set: an event of no change, without a sequence.
CREATE TYPE ni.refusal_v1 AS (
    event_id uuid, account text, epoch integer, client text, movement_id uuid, currency text,
    amount bigint, available_after bigint, reference text, narrative text, reason text
);

-- Queues in PostgreSQL, where there is no RabbitMQ. They are no account's, so they live in bucket
-- 0. `pattern` is a regular expression over types. One consumer has a queue at one time, `holder`
-- until `held_until`, so that an account's events stay in order. `due_at` is when a delivery may
-- be taken: it lies ahead while the consumer has it, or will have it again. A delivery's `holder`
-- took it and has neither ended it nor given it back; a due one that has a holder was in the hands
-- of a consumer that ended.
CREATE TABLE ni.event_queue (
    bucket     smallint NOT NULL,
    queue      text COLLATE "C" NOT NULL,
    pattern    text NOT NULL,
    temporary  boolean NOT NULL,
    holder     uuid NOT NULL,
    held_until timestamptz NOT NULL,
    PRIMARY KEY (bucket, queue)
);
CREATE TABLE ni.event_delivery (
    bucket   smallint NOT NULL,
    queue    text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    body     bytea NOT NULL,
    attempt  integer NOT NULL,
    due_at   timestamptz NOT NULL,
    holder   uuid,
    PRIMARY KEY (bucket, queue, event_id)
) WITH (vacuum_truncate = off, fillfactor = 70);
CREATE TABLE ni.event_dead (
    bucket   smallint NOT NULL,
    queue    text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    body     bytea NOT NULL,
    attempt  integer NOT NULL,
    reason   text NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (bucket, queue, event_id)
);
GRANT SELECT ON ni.event_queue, ni.event_delivery, ni.event_dead TO ni_engine;
