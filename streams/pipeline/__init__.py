"""Batches through Kafka: topics, worker, transactions, restore, dead letters."""
