"""Stores what happened: PostgreSQL or TimescaleDB through asyncpg.

embedded     a PostgreSQL server of our own, under the data folder
preparing    the database within a server of our own
connecting   pools of connections, and what their errors mean
tiers        what kind of server it is: plain, or one of two editions of TimescaleDB
migrating    numbered migrations, from the SQL files in ``migrations``
tables       which record goes to which table
batches      records and columns in, rows out
copying      numpy columns to the bytes of a binary COPY
partitions   partitions of plain PostgreSQL, made when they are needed
rollups      bars of wider intervals on servers that do not keep them by themselves
writing      one batch and the place behind it, in one transaction
journals     a journal as the source of a sink
topics       the topics of a Kafka cluster as the source of a sink
sinks        the loop: read, write, wait, try again
maintenance  retention, prompt aggregates, forgetting a run
paging       how a question becomes SQL
queries      the answers of ``streams.history``; the next five have them by subject
queries_market, queries_orders, queries_records, queries_results, queries_state  one subject each
"""
