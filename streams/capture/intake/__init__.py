"""From the body of a request to checked, deduplicated entries for the spool."""
