"""Stages over Kafka partitions: the same processors as everywhere, records in and records out."""
