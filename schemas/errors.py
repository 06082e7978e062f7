"""The one tree of errors that carrying out a webhook can end in.

``Retryable``: try again later. ``Permanent``: never try again. ``Unknown``: the effect may or may not have
happened. ``Undecodable``: the record itself cannot be read. Everything else is a bug and counts as retryable.
"""

import math


class PipelineError(Exception):
    """What every error of the pipeline is. ``code`` is for programs, the message for people."""

    code = "pipeline_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = str(code)


class Retryable(PipelineError):
    """A passing fault. ``retry_after_s`` is the wait the upstream asked for, in seconds; what is no number is none."""

    code = "retryable"
    retry_after_s: float | None = None

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = _seconds(retry_after_s)


class Permanent(PipelineError):
    """A fault that trying again cannot mend."""

    code = "permanent"


class Undecodable(PipelineError):
    """A record that cannot be read: wrong frame, unknown schema, broken or left-over bytes, too large, too deep."""

    code = "undecodable"


class Unknown(PipelineError):
    """The effect may have happened: somebody has to look before it is tried again."""

    code = "unknown"


def _seconds(value: object) -> float | None:
    """A handler may hand on what a header said: the engine reckons with it where nothing guards it any more."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None
