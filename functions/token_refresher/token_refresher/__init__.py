"""Keeps Virtuous token pairs fresh in AWS Secrets Manager: the function, and what the command shares."""

from virtuous_token import __version__

__all__ = ["__version__"]
