"""The spool on disk and the thread that forwards it to Kafka."""
