"""The rules of the hub: what scans mean. Knows nothing of Kafka, HTTP or files."""
