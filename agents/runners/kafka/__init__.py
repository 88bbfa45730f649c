"""Runs the stages on Kafka: Faust agents over a transport whose event is a batch of records."""
