"""EPCIS 2.0: documents and events checked, hashed, and mapped to scans and container events."""
