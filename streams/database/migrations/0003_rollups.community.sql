-- Columnstore and continuous aggregates (1 m, 5 m, 1 h, 1 d): the Community edition of TimescaleDB.
--
-- A bar is stamped at its end, so its minute is (14:30, 14:31]: buckets are moved by one ns, and
-- bucket is the first ns after the interval's beginning. Corrections of a bar are rows of their own;
-- the first aggregate takes the last revision. turnover is the sum of vwap times volume.
--
-- History of any age may come, so refreshing has no beginning; and it goes in one piece, since in
-- batches it would step through all the empty years between two runs.

ALTER TABLE trades SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'run_id, instrument_id',
    timescaledb.orderby = 'ts_ns, log_partition, log_offset'
);
CALL add_columnstore_policy('trades', after => BIGINT '604800000000000');

ALTER TABLE quotes SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'run_id, instrument_id',
    timescaledb.orderby = 'ts_ns, log_partition, log_offset'
);
CALL add_columnstore_policy('quotes', after => BIGINT '604800000000000');

ALTER TABLE bars SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'run_id, instrument_id',
    timescaledb.orderby = 'ts_ns, log_partition, log_offset'
);
CALL add_columnstore_policy('bars', after => BIGINT '7776000000000000');

ALTER TABLE account_equity SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'run_id, account_id, strategy_id',
    timescaledb.orderby = 'ts_ns, log_partition, log_offset'
);
CALL add_columnstore_policy('account_equity', after => BIGINT '7776000000000000');

CREATE MATERIALIZED VIEW bars_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    run_id,
    instrument_id,
    time_bucket(BIGINT '60000000000', ts_ns, BIGINT '1') AS bucket,
    last(open, revision) AS open,
    last(high, revision) AS high,
    last(low, revision) AS low,
    last(close, revision) AS close,
    last(volume, revision) AS volume,
    last(vwap * volume, revision) AS turnover,
    last(trade_count::numeric, revision) AS trade_count
FROM bars
WHERE "interval" = '1m'
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW bars_5m
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    run_id,
    instrument_id,
    time_bucket(BIGINT '300000000000', bucket, BIGINT '1') AS bucket,
    first(open, bucket) AS open,
    max(high) AS high,
    min(low) AS low,
    last(close, bucket) AS close,
    sum(volume) AS volume,
    sum(turnover) AS turnover,
    sum(trade_count) AS trade_count
FROM bars_1m
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW bars_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    run_id,
    instrument_id,
    time_bucket(BIGINT '3600000000000', bucket, BIGINT '1') AS bucket,
    first(open, bucket) AS open,
    max(high) AS high,
    min(low) AS low,
    last(close, bucket) AS close,
    sum(volume) AS volume,
    sum(turnover) AS turnover,
    sum(trade_count) AS trade_count
FROM bars_5m
GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW bars_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    run_id,
    instrument_id,
    time_bucket(BIGINT '86400000000000', bucket, BIGINT '1') AS bucket,
    first(open, bucket) AS open,
    max(high) AS high,
    min(low) AS low,
    last(close, bucket) AS close,
    sum(volume) AS volume,
    sum(turnover) AS turnover,
    sum(trade_count) AS trade_count
FROM bars_1h
GROUP BY 1, 2, 3
WITH NO DATA;

SELECT add_continuous_aggregate_policy(
    'bars_1m',
    start_offset => NULL,
    end_offset => BIGINT '60000000000',
    schedule_interval => interval '1 minute',
    buckets_per_batch => 0
);

SELECT add_continuous_aggregate_policy(
    'bars_5m',
    start_offset => NULL,
    end_offset => BIGINT '300000000000',
    schedule_interval => interval '1 minute',
    buckets_per_batch => 0
);

SELECT add_continuous_aggregate_policy(
    'bars_1h',
    start_offset => NULL,
    end_offset => BIGINT '3600000000000',
    schedule_interval => interval '1 minute',
    buckets_per_batch => 0
);

SELECT add_continuous_aggregate_policy(
    'bars_1d',
    start_offset => NULL,
    end_offset => BIGINT '86400000000000',
    schedule_interval => interval '1 minute',
    buckets_per_batch => 0
);
