"""One log line for every admin call, let through or refused: who did what to which model.

The lines go to the logger ``service.audit``: INFO for what was done, WARNING for what was refused or
failed. In JSON logs the facts are fields. Tokens are never among them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from service.error_handlers import as_api_error
from service.logging import escape, field_text
from service.routes import runtime_of
from service.security import Authentication

_audit = logging.getLogger("service.audit")
_MAX_VALUE = 200


class AdminCall:
    """What is known of one admin call while it runs.

    Attributes:
        status: the HTTP status of the answer, unless an error is raised.
        authenticated: how the caller was let through; None when it was not.
    """

    def __init__(self, action: str, facts: dict[str, Any]) -> None:
        self.action = action
        self.status = 200
        self.authenticated: Authentication | None = None
        self._facts = facts

    def facts(self, **facts: Any) -> None:
        """Add facts to the log line; a name that is there already gets the new value."""
        self._facts.update(facts)

    def fields(self) -> dict[str, Any]:
        """The action and its facts, text on one line and of bounded length."""
        return {"action": self.action} | {
            name: _plain(value) for name, value in self._facts.items() if value is not None
        }


@asynccontextmanager
async def admin_call(
    request: Request,
    action: str,
    *,
    content_type: str = "application/json",
    **facts: Any,
) -> AsyncIterator[AdminCall]:
    """Check that the caller is an admin, and log the call once when the block ends, however it ends.

    Args:
        action: what is to be done, such as ``reload``.
        content_type: as the guard takes it.
        facts: what is known of it already, such as ``model``; more with :meth:`AdminCall.facts`.

    Raises:
        Unauthorized, Forbidden: as the server's :class:`~service.security.AdminGuard`.
    """
    call = AdminCall(action, dict(facts))
    code: str | None = None
    try:
        call.authenticated = runtime_of(request).admin.check(request, content_type=content_type)
        yield call
    except asyncio.CancelledError:
        call.status, code = 503, "cancelled"  # only a stop of the server cancels a request
        raise
    except Exception as error:  # it is raised again: only the log line is made of it
        api_error = as_api_error(error)
        call.status = api_error.status if api_error is not None else 500
        code = api_error.code if api_error is not None else "internal_error"
        raise
    finally:
        _log(request, call, code)


def _log(request: Request, call: AdminCall, code: str | None) -> None:
    fields: dict[str, Any] = {
        **call.fields(),
        "status": call.status,
        **({"code": code} if code is not None else {}),
        "client": request.client.host if request.client is not None else "none",
        "auth": call.authenticated or "none",
        "request_id": request.scope.get("state", {}).get("request_id"),
    }
    text = " ".join(f"{name}={field_text(value)}" for name, value in fields.items())
    level = logging.WARNING if call.status >= 400 else logging.INFO
    _audit.log(level, "admin %s", text, extra={"fields": fields})


def _plain(value: Any) -> Any:
    """``value`` as it may stand in a log: numbers as they are, the rest as short text on one line."""
    if isinstance(value, int | float):
        return value
    text = escape(str(value))
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "..."
