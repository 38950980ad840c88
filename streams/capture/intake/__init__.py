"""The steps between a request body and the spool: each record is checked, authorized and deduplicated."""
