"""Composes the storage: settings to connections, the embedded server, sinks beside a run.

settings   the ``[database]`` table, and the connection that it and the environment make
service    a thread with the sink of a run, its migrations, retention and finished backtests
sinking    ``millrace sink``: the topics of a session, with health and metrics
"""
