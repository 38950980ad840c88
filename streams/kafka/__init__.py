"""Everything that talks to Kafka: settings, clients, topics, producers, dead letters, a local broker."""
