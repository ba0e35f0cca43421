"""Runs the app on uvicorn, with what that lacks: limits on heads, a drain that loses nothing."""

from service.server.runner import serve

__all__ = ["serve"]
