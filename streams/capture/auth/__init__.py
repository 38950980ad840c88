"""Who may send: devices, HTTP message signatures, bearer tokens, rates."""
