"""Adapters for AWS: Secrets Manager and the event bus."""
