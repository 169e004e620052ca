"""The provider: one exchange with Virtuous, and what its answers mean."""
