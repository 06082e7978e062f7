"""Errors of set-up: what is wrong, and what to do about it."""


class SetupError(Exception):
    """Something the process needs is missing or wrong; the command line prints it and exits with ``exit_code``.

    ``message`` says what is wrong and where, ``hint`` what to do. Never raised once work has begun.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()
