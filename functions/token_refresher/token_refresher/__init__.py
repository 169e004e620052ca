"""Keeps Virtuous token pairs fresh in AWS Secrets Manager: the scheduled function and the operator's command."""

__version__ = "1.0.0"
