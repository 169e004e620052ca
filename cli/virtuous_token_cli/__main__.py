"""``python -m virtuous_token_cli``, for a checkout in which the command is not installed."""

from .main import run

if __name__ == "__main__":
    run()
