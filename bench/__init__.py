"""This project's worker beside Kafka Streams: the same work, the same broker, the same machine."""
