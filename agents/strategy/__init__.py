"""The strategy stage: a small API for authors, and the processor that runs what they wrote.

config      how a strategy is set up in a run
parameters  declared, typed parameters with ranges
api         the base class of strategies, and the data that they are given
builtin     the strategies that come with Millrace
plan        where in a batch a strategy wants to act
events      the event form at work, one callback after the other
instance    one strategy at work on its instruments: targets, orders, fills
renaming    a symbol change as strategies see it
making_up   what follows an order that did not come about
failures    what an author's mistake is called
attributes  a strategy's own attributes, kept over a restart
saved       the snapshot of the stage
stage       all instances of a run, driven by position
"""
