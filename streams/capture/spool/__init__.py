"""The spool: accepted records on stable storage, and the thread that forwards them to Kafka."""
