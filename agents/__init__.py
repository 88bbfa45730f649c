"""What decides: pure processors, the pipeline that joins them, and the runners that drive it.

    domain     vocabulary and arithmetic of trading, below all stages
    market     trades to bars, indicators, quality, reference prices
    strategy   signals to order commands
    account    risk gate, order manager, portfolio
    venue      the paper venue
    runners    the only code here that does I/O or knows of time that passes

Everything but the runners is deterministic: time, ids and randomness are handed in.
"""
