-- The switch between day and night.
--
-- ni.mode says which it is; nothing else is stored of a switch under way, so that a killed switcher
-- leaves the old mode or the new one. What is written here is written in the flip's transaction.

-- One row a switch. The key of who asked stands beside it: a request that is sent again after a
-- lost answer finds what it has done, and does nothing again. Of the day there is one, so bucket 0.
-- switch_ms is the whole switch but the drain, its commit included, and so is written after it:
-- null when the switcher has died in between.
CREATE TABLE ni.day_switch (
    bucket             smallint NOT NULL,
    epoch              integer NOT NULL,
    mode               text NOT NULL CHECK (mode IN ('day', 'night')),
    at                 timestamptz NOT NULL,
    business_date      date,
    next_business_date date,
    client             text COLLATE "C" NOT NULL,
    key                text COLLATE "C",
    gate_tries         integer NOT NULL,
    drain_ms           integer NOT NULL,
    switch_ms          integer,
    unfinished         jsonb NOT NULL,
    PRIMARY KEY (bucket, epoch)
);
-- The night has the business date with which it began, also when a transaction of the core that
-- raised its date by day commits by night and moves the copy.
CREATE OR REPLACE VIEW night_alias.ledger AS
    SELECT d.day AS business_date, d.day AS next_business_date
      FROM (SELECT coalesce(
                (SELECT s.business_date FROM ni.mode AS m
                   JOIN ni.day_switch AS s ON s.bucket = 0 AND s.epoch = m.epoch
                  WHERE m.one AND s.mode = 'night'),
                (SELECT l.next_business_date FROM night.ledger AS l LIMIT 1)) AS day) AS d
     WHERE d.day IS NOT NULL;
CREATE INDEX day_switch_by_key ON ni.day_switch (client, key) WHERE key IS NOT NULL;

-- Customers' accounts that the core's own bookings of the night left below their limit; the epoch
-- is that of the day which began. Figures as they were when it was found.
CREATE TABLE ni.below_limit (
    bucket       smallint NOT NULL,
    epoch        integer NOT NULL,
    account      text COLLATE "C" NOT NULL,
    currency     text NOT NULL,
    available    bigint NOT NULL,
    credit_limit bigint NOT NULL,
    found_at     timestamptz NOT NULL,
    PRIMARY KEY (bucket, epoch, account)
);
