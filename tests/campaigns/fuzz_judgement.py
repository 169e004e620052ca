"""Coverage-guided fuzzing of the judgement, where atheris is installed; without it this says that it is skipped.

Every status with any headers and any body must have a meaning, whose repr shows no token, and a life is never longer
than the judgement allows.

    make fuzz    installs atheris where there is a wheel of it, and does this after the campaign over sockets
    python -m tests.campaigns.fuzz_judgement -runs=1000000 -seed=1
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
TOKENS = {"access_token": "access-1-token-of-30-characters", "refresh_token": "refresh-1-token-of-31-characters"}
CORPUS = [
    TOKENS | {"token_type": "bearer", "expires_in": 1_295_999, "twoFactorEnabled": "False"},
    TOKENS | {"expires_in": "12.5", "userName": "me@example.org", ".expires": "Thu, 10 Dec 2026 10:00:00 GMT"},
    {"error": "invalid_grant"},
    {"organizationUserId": 4711, "organizationName": "Example Relief", "isEnabled": "True"},
]


def main(argv: Sequence[str]) -> int:
    try:
        atheris: Any = importlib.import_module("atheris")  # has no types
    except ModuleNotFoundError:
        print("SKIPPED: the judgement is not fuzzed, because atheris is not installed (`make fuzz` tries to)")
        return 0
    with atheris.instrument_imports(include=["token_refresher", "json", "email"]):
        from token_refresher.refresh.model import Answer, Granted, Proof
        from token_refresher.virtuous.judgement import LONGEST_LIFE, Response, judge_proof, judge_token

    def judge_one(data: bytes) -> None:
        flags, date, retry_after, body = (data.split(b"\n", 3) + [b""] * 4)[:4]
        headers = {"date": date.decode("latin-1"), "retry-after": retry_after.decode("latin-1")}
        status = int.from_bytes(flags[:2]) % 1000 if flags[:1] else 200
        response = Response(status, headers, body, complete=len(flags) < 3)
        answer = judge_token(response, NOW)
        assert isinstance(answer, get_args(Answer))
        assert isinstance(judge_proof(response), get_args(Proof))
        if isinstance(answer, Granted):
            tokens = [token.reveal() for token in (answer.access_token, answer.refresh_token) if token is not None]
            shown = repr(answer._replace(user_name=None))  # an answer may name its user like its token
            assert not any(token in shown for token in tokens if len(token) > 20)
            assert answer.expires_at is None or NOW < answer.expires_at <= NOW + LONGEST_LIFE

    with tempfile.TemporaryDirectory() as corpus:
        for number, (status, content) in enumerate(itertools.product((200, 202, 400, 401, 429, 503), CORPUS)):
            date = b"Wed, 25 Nov 2026 10:00:00 GMT"
            answer = status.to_bytes(2) + b"\n" + date + b"\n847\n" + json.dumps(content).encode()
            (Path(corpus) / str(number)).write_bytes(answer)
        atheris.Setup([sys.argv[0], "-max_len=4096", *(argv or ["-runs=200000"]), corpus], judge_one)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
