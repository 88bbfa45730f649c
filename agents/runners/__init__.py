"""The runners: what drives the one pipeline.

    engine    all stages in one process, over merged batches, with feedback by position
    replay    history through the engine at full speed, into a journal: backtests, parity
    local     live in one process, over the journal, with an API in front

Runners may do I/O through streams; processors never do.
"""
