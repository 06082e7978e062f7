"""The one tree of errors that carrying out a webhook can end in.

``Retryable``: try again later. ``Permanent``: never try again. ``Unknown``: the effect may or may not have
happened. ``Undecodable``: the record itself cannot be read. Everything else is a bug and counts as retryable.
"""


class PipelineError(Exception):
    """What every error of the pipeline is. ``code`` is for programs, the message for people."""

    code = "pipeline_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Retryable(PipelineError):
    """A passing fault. ``retry_after_s`` is the wait the upstream asked for, in seconds."""

    code = "retryable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Permanent(PipelineError):
    """A fault that trying again cannot mend."""

    code = "permanent"


class Undecodable(PipelineError):
    """A record that cannot be read: wrong frame, unknown schema, broken or left-over bytes, too large, too deep."""

    code = "undecodable"


class Unknown(PipelineError):
    """The effect may have happened: somebody has to look before it is tried again."""

    code = "unknown"
