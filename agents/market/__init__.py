"""The market stage: what can be said of market data without knowing of any order.

    grouping          rows of many instruments side by side in one numpy pass
    buckets           which interval an instant belongs to: epoch, local hours, trading sessions
    prints            what bars are built from, as rows of one shape
    bars              bars from trades, coarser bars from bars, corrections
    history           closed bars that a late trade may still correct
    reference_prices  the thinned-out price at which accounts are marked
    validity          numbers that can be worked with
    quality           out of order, crossed, jumping and invalid data
    indicator_feed    indicators over the bars
    config            what to build and what to watch
    state             snapshots
    stage             all of it as one processor

Everything here only flows forward, so it is computed for whole batches at once.
"""
