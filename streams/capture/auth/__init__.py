"""Authentication of senders: registered devices, HTTP message signatures, bearer tokens and rate limits."""
