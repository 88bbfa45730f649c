-- What a run needs to be told without its journal. Limits by scope as the account stage applied them:
-- what was asked for stands in audit, what a run began with stands here alone.

CREATE TABLE risk_limits (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    scope text,
    scope_id text,
    operator text,
    reason text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE risk_limits IS 'Limits by scope as they were applied (risk.limits.v1).';

-- Changes of positions that are no fills: what a dividend was paid on, splits, new symbols.
CREATE INDEX ON positions (run_id, ts_ns) WHERE reason <> 'fill';

-- The changes of a strategy's positions in their order, page by page: lots are folded from them.
CREATE INDEX ON positions (run_id, account_id, strategy_id, ts_ns, log_partition, log_offset, event_id);
