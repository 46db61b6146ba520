-- The example of docs/explanation/core-port.md: a bank's own tables behind the views.
CREATE SCHEMA abs;
CREATE TABLE abs.product (product integer PRIMARY KEY, is_own boolean NOT NULL);
CREATE FUNCTION abs.is_own(integer) RETURNS boolean LANGUAGE sql STABLE
    RETURN (SELECT p.is_own FROM abs.product AS p WHERE p.product = $1);
CREATE TABLE abs.account (
    closed_on date,
    number    text COLLATE "POSIX" PRIMARY KEY,
    product   integer NOT NULL REFERENCES abs.product,
    currency  text NOT NULL,
    debit     bigint NOT NULL,
    credit    bigint NOT NULL,
    overdraft bigint NOT NULL,
    hidden    boolean NOT NULL DEFAULT false
);
CREATE TABLE abs.arrest (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account text COLLATE "C" NOT NULL,
    order_number text NOT NULL, since timestamptz NOT NULL, until timestamptz
);
CREATE TABLE abs.calendar (current_day date NOT NULL, next_day date NOT NULL);
INSERT INTO abs.product VALUES (1, false), (2, true);
INSERT INTO abs.account
    SELECT NULL, 'ABS-' || g, 1, 'CZK', 5, 100 + g, 7 FROM generate_series(1, 20) AS g;
INSERT INTO abs.arrest (account, order_number, since) VALUES ('ABS-3', 'order 1', now());
INSERT INTO abs.calendar VALUES ('2031-03-03', '2031-03-04');
CREATE OR REPLACE VIEW day_alias.account AS
    SELECT a.number COLLATE "C" AS account,
           CASE WHEN p.is_own THEN 'internal' ELSE 'customer' END AS kind,
           a.currency,
           CASE WHEN a.closed_on IS NULL THEN 'active' ELSE 'closed' END AS status,
           a.credit - a.debit AS balance,
           a.overdraft AS credit_limit
      FROM abs.account AS a JOIN abs.product AS p ON p.product = a.product
     WHERE NOT a.hidden;
CREATE OR REPLACE VIEW day_alias.block AS
    SELECT account, 'debit'::text AS side, order_number AS legal_reference,
           since AS valid_from, until AS valid_to
      FROM abs.arrest;
CREATE OR REPLACE VIEW day_alias.ledger AS
    SELECT current_day AS business_date, next_day AS next_business_date FROM abs.calendar;
