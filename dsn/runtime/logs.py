"""One structured log a process: events with fields, to standard error, never with secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import structlog


def configure_logs(level: str, *, as_json: bool) -> None:
    """Send every log line of this process to standard error.

    Args:
        level: Least important level kept: ``debug``, ``info``, ``warning`` or ``error``.
        as_json: One JSON object a line, for machines; else aligned text for people.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_for_machines() if as_json else _for_people()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s")


def _for_machines() -> Sequence[structlog.typing.Processor]:
    """Tracebacks without local variables: a key may be one."""
    plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return structlog.processors.ExceptionRenderer(plain), structlog.processors.JSONRenderer()


def _for_people() -> Sequence[structlog.typing.Processor]:
    colors = sys.stderr.isatty()
    plain = structlog.dev.plain_traceback
    return (structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),)
