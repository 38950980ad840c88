"""Byte formats of records: Avro schemas and their compatibility, position records, Ticks, files of records."""
