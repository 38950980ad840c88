"""Clients of Kafka: settings, readers, topics, producers, dead letters, and a local broker."""
