-- Order flow, reference data, runs and the places of the sinks: plain tables on every tier.
--
-- A row of order flow is one record: what queries ask for as columns, and the whole as its JSON. Its
-- identity is (run_id, ts_ns, event_id): two runs of the same data share event ids. log_partition
-- and log_offset are its place in its topic, in which records of one instant keep their order.

CREATE FUNCTION now_ns() RETURNS bigint LANGUAGE sql STABLE
    AS $$ SELECT (extract(epoch FROM now()) * 1000000)::bigint * 1000 $$;

CREATE FUNCTION ts(ts_ns bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT timestamptz 'epoch' + (ts_ns / 1000) * interval '1 microsecond' $$;
COMMENT ON FUNCTION ts IS 'The instant of ns since 1970, cut to microseconds.';

-- How far each sink has come in each of its sources. The place moves in the transaction that stores
-- the rows before it, and only from the place that the sink believed it had.
CREATE TABLE sink_positions (
    sink text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    state jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
);

-- Records that no table would take, with the reason and their bytes.
CREATE TABLE sink_rejects (
    sink text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    log_offset bigint NOT NULL,
    reason text NOT NULL,
    body bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition, log_offset)
);

-- Records that were gone before a sink could read them: retention was quicker than the database.
CREATE TABLE sink_gaps (
    sink text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition, first_offset)
);

-- The times between which a run has rows in a table (bars by interval: bars/1m), so that a search
-- knows where to begin.
CREATE TABLE spans (
    run_id text NOT NULL,
    relation text NOT NULL,
    first_ns bigint NOT NULL,
    last_ns bigint NOT NULL,
    rows bigint NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, relation)
);

CREATE TABLE instruments (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    instrument_id text,
    symbol text,
    venue text,
    kind text,
    currency text,
    price_increment numeric,
    quantity_increment numeric,
    multiplier numeric,
    calendar text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE instruments IS 'Definitions of instruments (reference.instruments.v1).';
CREATE INDEX ON instruments (run_id, instrument_id);

CREATE TABLE corporate_actions (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    instrument_id text,
    kind text,
    ratio numeric,
    amount numeric,
    currency text,
    new_symbol text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE corporate_actions IS 'Splits, dividends, symbol changes (reference.actions.v1).';

CREATE TABLE exchange_rates (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    base_currency text,
    quote_currency text,
    rate numeric,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE exchange_rates IS 'Exchange rates (reference.rates.v1).';

CREATE TABLE orders (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    strategy_id text,
    client_order_id text,
    instrument_id text,
    side text,
    quantity numeric,
    order_type text,
    limit_price numeric,
    stop_price numeric,
    time_in_force text,
    parent_order_id text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE orders IS 'What was asked for: one row a command to submit (account.inputs.v1).';
CREATE INDEX ON orders (run_id, account_id, client_order_id, ts_ns);
CREATE INDEX ON orders (run_id, client_order_id);
CREATE INDEX ON orders (run_id, correlation_id);

CREATE TABLE order_events (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    strategy_id text,
    client_order_id text,
    instrument_id text,
    status text,
    code text,
    detail text,
    cumulative_quantity numeric,
    average_price numeric,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE order_events IS 'What happened to orders (orders.events.v1); status is the state after the event.';
CREATE INDEX ON order_events (run_id, account_id, client_order_id, ts_ns);
CREATE INDEX ON order_events (run_id, correlation_id);

CREATE TABLE order_receipts (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    client_order_id text,
    outcome text,
    code text,
    detail text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE order_receipts IS 'Answers to commands at the door of the account stage (orders.receipts.v1).';
CREATE INDEX ON order_receipts (run_id, account_id, client_order_id, ts_ns);
CREATE INDEX ON order_receipts (run_id, correlation_id);

CREATE TABLE fills (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    strategy_id text,
    client_order_id text,
    instrument_id text,
    trade_id text,
    side text,
    quantity numeric,
    price numeric,
    fee numeric,
    currency text,
    liquidity_side text,
    reference_price numeric,
    market_event_id text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE fills IS 'Executions (orders.fills.v1).';
CREATE INDEX ON fills (run_id, account_id, client_order_id, ts_ns);
CREATE INDEX ON fills (run_id, correlation_id);

CREATE TABLE positions (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    strategy_id text,
    instrument_id text,
    quantity numeric,
    average_price numeric,
    realized_pnl numeric,
    realized_pnl_fifo numeric,
    fees numeric,
    currency text,
    reason text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE positions IS 'Positions as they changed (portfolio.positions.v1); results are sums since the beginning.';
CREATE INDEX ON positions (run_id, account_id, strategy_id, instrument_id, ts_ns, log_offset);
CREATE INDEX ON positions (run_id, correlation_id);

CREATE TABLE account_snapshots (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    strategy_id text,
    base_currency text,
    equity numeric,
    realized_pnl numeric,
    unrealized_pnl numeric,
    fees numeric,
    gross_exposure numeric,
    net_exposure numeric,
    buying_power numeric,
    daily_pnl numeric,
    drawdown double precision,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE account_snapshots IS 'Accounts and shares of strategies, marked to market (portfolio.accounts.v1).';
CREATE INDEX ON account_snapshots (run_id, account_id, strategy_id, ts_ns);

CREATE TABLE risk_decisions (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    account_id text,
    strategy_id text,
    client_order_id text,
    instrument_id text,
    is_approved boolean,
    breaker_epoch bigint,
    code text,
    measured text,
    "limit" text,
    scope text,
    detail text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE risk_decisions IS 'Every word of the risk gate (risk.decisions.v1).';
CREATE INDEX ON risk_decisions (run_id, account_id, client_order_id, ts_ns);
CREATE INDEX ON risk_decisions (run_id, correlation_id);

CREATE TABLE breaker_changes (
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
    state text,
    epoch bigint,
    operator text,
    reason text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE breaker_changes IS 'States of the circuit breaker (risk.breaker.v1).';

CREATE TABLE strategy_states (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    strategy_id text,
    name text,
    account_id text,
    status text,
    detail text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE strategy_states IS 'What each strategy was doing (strategy.states.v1).';

CREATE TABLE strategy_signals (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    strategy_id text,
    instrument_id text,
    target double precision,
    price double precision,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE strategy_signals IS 'Targets of strategies as they changed (strategy.signals.v1).';
CREATE INDEX ON strategy_signals (run_id, event_id);

CREATE TABLE backtests (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    task_id text,
    strategy_name text,
    status text,
    output_hash text,
    detail text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE backtests IS 'Requests and results of backtests (backtest.requests.v1, backtest.results.v1).';

CREATE TABLE runs (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    segment integer,
    mode text,
    engine_version text,
    code_hash text,
    config_hash text,
    output_hash text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE runs IS 'Manifests of runs and of their segments (system.runs.v1).';

CREATE TABLE audit (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    operator text,
    account_id text,
    strategy_id text,
    client_order_id text,
    scope text,
    scope_id text,
    action text,
    reason text,
    method text,
    path text,
    status integer,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE audit IS 'What people and programs told the engine to do.';
CREATE INDEX ON audit (run_id, event_id);
CREATE INDEX ON audit (run_id, correlation_id);
CREATE INDEX ON audit (run_id, operator, ts_ns);

CREATE TABLE dead_letters (
    run_id text NOT NULL,
    ts_ns bigint NOT NULL,
    event_id text NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    record_type text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    topic text,
    reason text,
    body json NOT NULL,
    PRIMARY KEY (run_id, ts_ns, event_id)
);
COMMENT ON TABLE dead_letters IS 'Records that a stage could not use (system.dead-letters.v1).';

CREATE INDEX ON backtests (task_id);
CREATE INDEX ON backtests (ts_ns DESC, event_id) WHERE record_type = 'backtest_result';
