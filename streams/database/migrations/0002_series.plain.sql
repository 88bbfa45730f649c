-- Series on plain PostgreSQL: partitions by time, made by Millrace before it writes into them.
--
-- Rows come by COPY and have no unique key: the place of the sink keeps them single. BRIN is enough
-- to find a stretch of time, and costs nothing to keep.

CREATE TABLE trades (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    instrument_id text NOT NULL,
    price double precision NOT NULL,
    size double precision NOT NULL,
    source text NOT NULL,
    source_seq bigint NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE trades IS 'Public prints.';
CREATE INDEX ON trades USING brin (ts_ns, run_id);

CREATE TABLE quotes (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    instrument_id text NOT NULL,
    bid_price double precision NOT NULL,
    ask_price double precision NOT NULL,
    bid_size double precision NOT NULL,
    ask_size double precision NOT NULL,
    source text NOT NULL,
    source_seq bigint NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE quotes IS 'Best bid and ask; a side that does not exist has price 0.';
CREATE INDEX ON quotes USING brin (ts_ns, run_id);

CREATE TABLE bars (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    instrument_id text NOT NULL,
    "interval" text NOT NULL,
    start_ns bigint NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    vwap double precision NOT NULL,
    trade_count bigint NOT NULL,
    is_partial boolean NOT NULL,
    revision integer NOT NULL,
    source text NOT NULL,
    source_seq bigint NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE bars IS 'Bars, ts_ns is the close; a row with a higher revision corrects one with a lower.';
CREATE INDEX ON bars USING brin (ts_ns, run_id);

CREATE TABLE account_equity (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    account_id text NOT NULL,
    strategy_id text NOT NULL,
    equity double precision NOT NULL,
    cash double precision NOT NULL,
    gross_exposure double precision NOT NULL,
    net_exposure double precision NOT NULL,
    drawdown double precision NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE account_equity IS 'Equity of accounts; with a strategy, of its share.';
CREATE INDEX ON account_equity USING brin (ts_ns, run_id);
