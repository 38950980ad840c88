"""The rules of the hub: the meaning of scans. Knows nothing of Kafka, HTTP or files."""
