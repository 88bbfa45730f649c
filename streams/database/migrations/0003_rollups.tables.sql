-- Bars of wider intervals as tables, for servers without continuous aggregates (plain PostgreSQL,
-- and the Apache edition of TimescaleDB). The sink keeps them in the transaction that stores bars.
--
-- They have the columns of the aggregates: bucket is the first ns after the interval's beginning,
-- for a bar of (14:30, 14:31] is stamped 14:31; turnover is the sum of vwap times volume.

CREATE TABLE bars_1m (
    run_id text NOT NULL,
    instrument_id text NOT NULL,
    bucket bigint NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    turnover double precision NOT NULL,
    trade_count numeric NOT NULL,
    PRIMARY KEY (run_id, instrument_id, bucket)
);

CREATE TABLE bars_5m (
    run_id text NOT NULL,
    instrument_id text NOT NULL,
    bucket bigint NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    turnover double precision NOT NULL,
    trade_count numeric NOT NULL,
    PRIMARY KEY (run_id, instrument_id, bucket)
);

CREATE TABLE bars_1h (
    run_id text NOT NULL,
    instrument_id text NOT NULL,
    bucket bigint NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    turnover double precision NOT NULL,
    trade_count numeric NOT NULL,
    PRIMARY KEY (run_id, instrument_id, bucket)
);

CREATE TABLE bars_1d (
    run_id text NOT NULL,
    instrument_id text NOT NULL,
    bucket bigint NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    turnover double precision NOT NULL,
    trade_count numeric NOT NULL,
    PRIMARY KEY (run_id, instrument_id, bucket)
);
