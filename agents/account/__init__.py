"""The account stage: risk gate, order manager and portfolio, over one ordered input.

config     what an account is
state      orders, slots and accounts, as they stand and as they are snapshotted
checks     one small function for each pre-trade check, with its reason code
breaker    breaker states by scope and their epoch
portfolio  fills, splits and dividends into positions and cash
marks      reference prices, equity marks, drawdown and daily loss
what_if    what the gate would say to an order, without a trace
orders     the order manager: commands and venue reports through the transition table
stage      the processor that dispatches its input to all of these
"""
