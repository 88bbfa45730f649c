"""The paper venue: an exchange that fills orders from recorded or live market data.

config       which models and rules hold
models       fee, slippage, latency, participation: one question each
resting      an order at the venue
tape         the rows of one instrument that can fill orders
matching     what one market event does to one order
paper_venue  the processor: commands in, reports out, driven by position
"""
