"""A text that keeps quiet: tokens, passwords and one-time codes travel through the program inside it."""

from __future__ import annotations

from typing import NoReturn


class SecretText:
    """A secret whose repr, str and format show three stars instead of the text.

    Only :meth:`reveal` gives the text out, so every place that can leak it is found by that word. It equals a
    :class:`SecretText` of the same text alone, can be copied, and refuses to be pickled.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a SecretText holds a str, not {type(text).__name__}")  # which may be a secret: not shown
        self._text = text

    def reveal(self) -> str:
        """The text itself. Call it where the secret leaves the program for its one purpose, and nowhere else."""
        return self._text

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell one token from another and from which nobody gets back to the text.

        It is a truncated SHA-256, meant for random tokens of 20 characters and more; it must not be shown for
        passwords or one-time codes, which can be guessed.
        """
        from hashlib import sha256  # here: whoever only reads a token never pays for the import

        return sha256(b"virtuous-token fingerprint\0" + self._text.encode("utf-8", "surrogatepass")).hexdigest()[:8]

    def __repr__(self) -> str:
        return "SecretText(***)"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretText):
            return NotImplemented
        from hmac import compare_digest

        return compare_digest(self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __copy__(self) -> SecretText:
        return self

    def __deepcopy__(self, memo: object) -> SecretText:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretText cannot be pickled: it would leave the process in plain text")
