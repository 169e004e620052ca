"""What the command says when it could not do what it was asked."""

from __future__ import annotations

__all__ = ["CommandFailed"]


class CommandFailed(Exception):
    """Ends the command with exit status 1.

    The text says what happened and holds no secret. *run* lists the commands, or one sentence, that mend it.
    """

    def __init__(self, what: str, *run: str) -> None:
        super().__init__(what)
        self.run = run
