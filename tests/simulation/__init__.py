"""Seeded runs with faults: real processes, killed at random instants."""
