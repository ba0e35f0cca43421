"""Constructors take explicit keywords; this decorator lets a registered class also take a config.

It is the one place, with the ``build_*`` functions, where a module meets a config: ``Class(cfg, ...)``
becomes ``Class(**Class.from_config(cfg, ...))``, so that subclasses extend either half alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from models.config import Config


def configurable(init: Callable[..., None]) -> Callable[..., None]:
    """Decorate ``__init__`` so that a first argument (or ``cfg=``) of type Config goes to ``from_config``.

    Keywords that ``from_config`` does not name go to ``__init__`` and override what it returned.
    """

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        from_positional = bool(args) and isinstance(args[0], Config)
        if not from_positional and not isinstance(kwargs.get("cfg"), Config):
            init(self, *args, **kwargs)
            return
        from_config = type(self).from_config
        parameters = inspect.signature(from_config).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            explicit = from_config(*args, **kwargs)
        else:
            named = {p.name for p in parameters}
            overrides = {k: kwargs.pop(k) for k in list(kwargs) if k not in named}
            explicit = {**from_config(*args, **kwargs), **overrides}
        init(self, **explicit)

    return wrapper
