"""Coverage-guided fuzzing of the judgement, where atheris is installed; without it this says so and does nothing.

Every status with any headers and any body must have a meaning, whose repr shows no token, and a life is never longer
than the judgement allows.

    pip install atheris
    python -m benchmarks.fuzz_judgement -runs=1000000 -seed=1
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
GOOD = {
    "access_token": "access-1-token-of-30-characters",
    "token_type": "bearer",
    "expires_in": 1_295_999,
    "refresh_token": "refresh-1-token-of-31-characters",
    "userName": "me@example.org",
    "twoFactorEnabled": "False",
    ".expires": "Thu, 10 Dec 2026 10:00:00 GMT",
}
CORPUS = [
    GOOD,
    GOOD | {"expires_in": "12.5", "twoFactorEnabled": True, ".expires": "2026-12-10T10:00:00Z"},
    {"error": "invalid_grant"},
    {"error": "awaiting_verification"},
    {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": "True"},
]


def main(argv: Sequence[str]) -> int:
    try:
        atheris: Any = importlib.import_module("atheris")  # has no types
    except ModuleNotFoundError:
        print("atheris is not installed: no coverage-guided fuzzing")
        return 0
    with atheris.instrument_imports(include=["token_refresher", "json", "email"]):
        from token_refresher.answers import Answer, Granted, Proof
        from token_refresher.judgement import LONGEST_LIFE, Response, judge_proof, judge_token

    def judge_one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        status = provider.ConsumeIntInRange(0, 999) if provider.ConsumeBool() else 200
        headers = {"date": provider.ConsumeString(40), "retry-after": provider.ConsumeString(40)}
        is_complete = provider.ConsumeBool()
        response = Response(status, headers, provider.ConsumeBytes(sys.maxsize), is_complete)
        answer = judge_token(response, NOW)
        assert isinstance(answer, get_args(Answer))  # noqa: S101
        assert isinstance(judge_proof(response), get_args(Proof))  # noqa: S101
        if isinstance(answer, Granted):
            tokens = [token.reveal() for token in (answer.access_token, answer.refresh_token) if token is not None]
            told = repr(dataclasses.replace(answer, user_name=None))  # an answer may name its user like its token
            assert not any(token in told for token in tokens if len(token) > 20)  # noqa: S101
            assert answer.expires_at is None or NOW < answer.expires_at <= NOW + LONGEST_LIFE  # noqa: S101

    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(CORPUS):
            # Atheris takes numbers and texts from the end of its data, and bytes from the start.
            (Path(corpus) / str(number)).write_bytes(json.dumps(content).encode() + b"\0" * 90)
        atheris.Setup([sys.argv[0], "-max_len=4096", *(argv or ["-runs=200000"]), corpus], judge_one)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
