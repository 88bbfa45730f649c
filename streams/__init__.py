"""What carries records: journal, importers, data sets, calendars; later Kafka, database and broker links.

Imports schemas and nothing else of ours. All I/O of the engine stands here.
"""
