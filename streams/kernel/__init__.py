"""The compiled machinery: Avro columns in and out, the word table, the parcel table, the fold."""
