"""The capture gateway: takes EPCIS documents and scan batches by HTTP, stores them on disk, forwards them to Kafka."""
