"""What is said: every record, id, value and topic of Millrace.

    errors         the error tree
    enums          closed vocabularies
    values         grids: the one place that converts float64, integers and Decimal
    envelope       what every record carries
    identifiers    how ids are made
    instruments    instruments, corporate actions, exchange rates, the universe of a run
    market_data    trades, quotes, bars, books, status, watermarks as single records
    columns        the same as numpy columns, in batches
    rows           single records to column rows and back
    commands       order commands
    order_events   venue reports, fills and order events
    risk           limits, decisions, breaker
    portfolio      positions and account snapshots
    control        strategies, configuration, backtests, manifests, snapshots, order log
    topics         the catalogue of topics
    codec          bytes to records and back

Imports nothing of ours.
"""
