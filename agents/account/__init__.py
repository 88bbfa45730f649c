"""The account stage: risk gate, order manager and portfolio, over one ordered input.

config           what an account is
state            orders, positions and accounts, as they stand
saved            the snapshot of all of it
slots            what concerns one account, strategy and instrument, found once
intent           what follows from an order, for the checks
checks           one small function for each pre-trade check, with its reason code
exposure         what holdings and working orders come to
exposure_checks  the checks that look at the account as a whole
breaker          breaker states by scope and their epoch
gate             what becomes of an order command before anything reaches a venue
what_if          what the gate would say to an order, without a trace
orders           the order manager: commands and venue reports through the transition table
operators        limits, breaker, and the three acts of stopping
actions          splits and symbol changes on orders, limits and breakers
portfolio        fills, splits, dividends and symbol changes into positions and cash
valuation        what an account is worth at an instant, exactly
lines            an account's equity as cash and weighted prices
mark_rows        marks as columns: instants and order
mark_prices      last prices at marks
marks            reference prices, equity marks, drawdown and daily loss
dead_letters     records that could not be used
stage            the processor that dispatches its input to all of these
"""
