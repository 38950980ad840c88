"""Avro in compiled code: bytes to columns and back."""
