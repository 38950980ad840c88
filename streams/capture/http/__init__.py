"""The gateway's HTTP application and server: routes, OpenAPI document, problems."""
