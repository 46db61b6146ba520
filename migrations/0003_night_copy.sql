-- The night copy: what the core says, kept row for row beside it, to decide on while it is closed.
--
-- By day triggers on the core's relations write the copy in the core's own transactions. What they
-- do not write they note in night.changed: by night every key that the core touches, by day a
-- TRUNCATE and what a lookup changes. The copy is exact when there is no note, asked anew each
-- time; it is brought back from its notes while the day runs. functions/night_copy.sql has that
-- work, functions/night_copy_install.sql makes the triggers.
--
-- A row of the copy is known by its bucket and its key, the core's own. A key whose row moves to
-- another bucket (a block that passes to another account) is one row gone and another one new.

-- Keys are text, whatever the core's type is.
ALTER TABLE night.block ALTER COLUMN block_id TYPE text COLLATE "C";
DROP VIEW night_alias.ledger;
DROP TABLE night.ledger;
CREATE TABLE night.ledger (
    bucket             smallint NOT NULL,
    ledger             text COLLATE "C" NOT NULL,
    business_date      date NOT NULL,
    next_business_date date NOT NULL,
    PRIMARY KEY (bucket, ledger)
);
-- By night the business date is the next one, and nothing may be valued later.
CREATE VIEW night_alias.ledger AS
    SELECT next_business_date AS business_date, next_business_date FROM night.ledger;
GRANT SELECT ON night_alias.ledger TO ni_engine;
-- A changed row finds its place beside the old one, like the core's own.
ALTER TABLE night.account SET (fillfactor = 50);

-- One row a key that may differ from the core. `side` is not null: all keys of the relation are
-- noted, those that the core has or those of this bucket that the copy has, and key says up to
-- where they have been looked at.
CREATE TABLE night.changed (
    bucket   smallint NOT NULL,
    note_id  bigint GENERATED ALWAYS AS IDENTITY,
    relation text COLLATE "C" NOT NULL CHECK (relation IN ('account', 'block', 'ledger')),
    side     text COLLATE "C" CHECK (side IN ('core', 'night')),
    key      text COLLATE "C",
    CHECK (side IS NOT NULL OR key IS NOT NULL),
    PRIMARY KEY (bucket, note_id)
) WITH (vacuum_truncate = off);

-- One row. No note with an id up to `settled` is there or can come any more, so nobody looks for
-- one among the dead rows that the core's long transaction keeps.
CREATE TABLE ni.night_copy (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    settled   bigint NOT NULL DEFAULT 0,
    copied_at timestamptz NOT NULL
);
INSERT INTO ni.night_copy (copied_at) SELECT m.since FROM ni.mode AS m;

-- From where each relation of the copy comes; a bank with its own core writes its own rows here
-- and calls ni.install_night_copy_v1(). `key` is a column of the core's relation with a unique
-- index (null: the relation has one row); `columns` gives for each column of the copy an expression
-- over the relation's row r; `condition` says which rows are shown; a change in one of `lookups`
-- notes everything.
CREATE TABLE ni.night_source (
    relation  text COLLATE "C" PRIMARY KEY CHECK (relation IN ('account', 'block', 'ledger')),
    source    text COLLATE "C" NOT NULL,
    key       text COLLATE "C",
    columns   jsonb NOT NULL,
    condition text NOT NULL DEFAULT 'true',
    lookups   text[] NOT NULL DEFAULT '{}'
);
INSERT INTO ni.night_source (relation, source, key, columns) VALUES
    ('account', 'core.account', 'account',
     '{"account": "r.account", "kind": "r.kind", "currency": "r.currency", "status": "r.status",
       "balance": "r.balance", "credit_limit": "r.credit_limit"}'),
    ('block', 'core.block', 'block_id',
     '{"account": "r.account", "side": "r.side", "legal_reference": "r.legal_reference",
       "valid_from": "r.valid_from", "valid_to": "r.valid_to"}'),
    ('ledger', 'core.ledger', 'one',
     '{"business_date": "r.business_date", "next_business_date": "r.next_business_date"}');

-- What the copy stands on, as it was seen when everything was noted last: a relation that is
-- followed, a partition of it, a view of the day. `seen` are marks that any change of it changes.
CREATE TABLE ni.night_followed (
    relation text COLLATE "C" NOT NULL CHECK (relation IN ('account', 'block', 'ledger')),
    target   oid NOT NULL,
    name     text NOT NULL,
    seen     text NOT NULL,
    PRIMARY KEY (relation, target)
);
