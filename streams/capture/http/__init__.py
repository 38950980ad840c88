"""The HTTP side of the gateway: the process, its routes, its error answers and its OpenAPI document."""
