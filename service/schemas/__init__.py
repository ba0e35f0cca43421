"""What crosses the wire, as pydantic models: options in, answers out (for OpenAPI and for tests)."""
