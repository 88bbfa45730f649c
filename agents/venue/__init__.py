"""The paper venue: an exchange that fills orders from recorded or live market data.

config       which models and rules hold
models       fee, slippage, latency, participation: one question each
terms        what an order asks for, on the grids
book         working orders, and everything else that a snapshot holds
agenda       what time will bring about
usable       which rows of market data the venue can work with
tape         the rows of one instrument that can fill orders
matching     what one market event does to one order
execution    one event meets the orders that it reaches
actions      splits and symbol changes on what the venue has in mind
reports      ids, prices and fees of what the venue says
paper_venue  the processor: commands in, reports out, driven by position
"""
