"""Reads the current Virtuous bearer token from AWS Secrets Manager."""
