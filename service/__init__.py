"""The microservice: HTTP in, instances out, around a resident detector."""

__version__ = "0.1.0"
