-- The history of backtests goes by the wall clock at which they finished; older results tell the
-- market's time alone.

CREATE INDEX ON backtests (
    (coalesce((body->>'finished_ns')::bigint, ts_ns)) DESC, event_id DESC, run_id DESC
) WHERE record_type = 'backtest_result';

DROP INDEX IF EXISTS backtests_ts_ns_event_id_idx;
