"""What carries records: journal, importers, data sets, calendars.

Imports schemas and nothing else of ours. All I/O of the engine stands here.
"""
