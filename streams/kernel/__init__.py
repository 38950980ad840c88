"""The compiled machinery: Avro decoding and encoding in columns, the parcel table, and the fold."""
