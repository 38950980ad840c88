"""How records look as bytes: Avro schemas and their compatibility, positions, Ticks, files of records."""
