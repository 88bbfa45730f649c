"""A real Apache Kafka on this machine: its jars through Maven, a Java, and a node with its data."""
