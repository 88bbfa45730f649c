"""The strategy stage: a small API for authors, and the processor that runs what they wrote.

parameters  declared, typed parameters with ranges
api         the base class of strategies, and the data that they are given
builtin     the strategies that come with Millrace
plan        where in a batch a strategy wants to act
instance    one strategy at work on its instruments: targets, orders, fills
stage       all instances of a run, driven by position
"""
