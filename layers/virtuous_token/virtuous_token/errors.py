"""Every error that this package raises::

    VirtuousTokenError
    └── UnreadableSecret    the value of a secret is not in the format that contract.py describes

No error's text holds a secret, nor does any exception that it was caused by.
"""

from __future__ import annotations

__all__ = ["UnreadableSecret", "VirtuousTokenError"]


class VirtuousTokenError(Exception):
    """Base of every error that this package raises."""


class UnreadableSecret(VirtuousTokenError):
    """The value of a secret is not in the format that it must have; the text says what is wrong, never the value."""
