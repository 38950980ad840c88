"""HTTP in: EPCIS and scan batches, checked, on disk before the answer, then into the log."""
