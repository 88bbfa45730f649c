"""Kafka as a log: how to connect, and the topics of the catalogue on a cluster."""
