"""Whole sessions by the command line, minutes each: ``make long``.

Several real processes and a broker for each test. They want a machine of their own, so `make test`
leaves them out.
"""
