"""What goes wrong on a user's side of things, said so that it can be put right. Exit codes are in the README."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_TIMEOUT = 4
EXIT_STORE = 5


class UserError(Exception):
    """One line on what was wrong, one on what to do.

    `code`: a stable word for scripts; `exit_code`: what the CLI exits with; `status`: what the API answers with.
    """

    def __init__(
        self, code: str, message: str, hint: str = "", exit_code: int = EXIT_FAILED, status: int = 409
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.status = status
