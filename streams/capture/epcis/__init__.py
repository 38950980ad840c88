"""EPCIS 2.0: checks documents and events, hashes events, and maps them to scans and container events."""
