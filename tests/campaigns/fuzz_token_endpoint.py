"""A long campaign of random answers against the real token endpoint, through a real socket.

Each answer starts as one that Virtuous could give and is then spoilt: in its status, headers, framing, JSON, bytes,
in how it is cut into pieces and in how the connection ends. Whatever comes, the endpoint must return a result of its
own types in time, show no secret, and keep a refresh token that arrived whole in a 200 whose headers frame it truly.

    python -m tests.campaigns.fuzz_token_endpoint --answers 100000 --seed 1
    python -m tests.campaigns.fuzz_token_endpoint --seed 1 --only 4711      one answer again, printed in full
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, get_args

from tests.fakes.virtuous import Loss, Step, Virtuous
from tests.leak_harness import LeakHarness
from token_refresher.refresh.model import Answer, Granted, Proof
from token_refresher.virtuous.endpoint import TokenEndpoint
from virtuous_token.secret_text import SecretText

REQUEST_SECONDS = 0.3
SLACK_SECONDS = 2.0  # what a busy machine may add
BATCH = 100  # answers between two looks for leaks
NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)

STATUSES = [200] * 12 + [202, 204, 301, 307, 400, 400, 401, 403, 404, 408, 425, 429, 500, 502, 503, 520, 100, 103, 101]
CODES = ["invalid_grant", "invalid_request", "invalid_client", "awaiting_verification", "", "x", None, 5, {"code": 1}]
VALUES = [
    *[None, True, False, 0, -1, 1.5, 10**12, 10**400, float("nan"), float("inf"), "", " ", "soon", "1295999", "1e9"],
    *["\ud800", "é", "a\nb", '"', "\0", [], {}, [[]], "Wed, 25 Nov 2026 10:00:00 GMT", "99 Foo 0000", "x" * 5000],
]
HARMLESS = [
    *("Date: Wed, 25 Nov 2026 10:00:00 GMT", "Date: soon", "Date: {secret}", "Content-Type: text/html"),
    *("Retry-After: 847", "Retry-After: -1", "Retry-After: {secret}", "Content-Encoding: gzip"),
]
HEADERS = [
    *(*HARMLESS, "Connection: keep-alive", "Upgrade: x", "Trailer: x", "X: " + "y" * 70_000, "X" * 300, ": nameless"),
    *(" continued", "Ünï: ö", "Set-Cookie: a={secret}", "{secret}", "Content-Length: {secret}"),
    "Location: https://x/?t={secret}",
]
GOOD = {
    "token_type": "bearer",
    "expires_in": 1_295_999,
    "userName": "me@example.org",
    "twoFactorEnabled": "False",
    ".expires": "Thu, 10 Dec 2026 10:00:00 GMT",
    "organizationUserId": 4711,
    "organizationName": "Example Relief",
    "isEnabled": True,
}


class Script(NamedTuple):
    """What the server does with one connection. ``must_keep`` is a refresh token that may not get lost."""

    pieces: Sequence[bytes]
    ending: Loss
    must_keep: str | None


def script(chance: random.Random, sent: str, harness: LeakHarness) -> Script:
    """An answer to a request that carried the secret *sent*."""
    number = chance.randrange(10**12)
    access_token = harness.secret(f"access-{number:012}-secret")
    refresh_token = harness.secret(f"refresh-{number:012}-secret")
    status = chance.choice(STATUSES)
    content: dict[str, Any] = GOOD | {"access_token": access_token, "refresh_token": refresh_token}
    for key in chance.sample(sorted(content), chance.choice([0, 0, 1, 2, 5])):
        content[key] = chance.choice(VALUES)
        if chance.random() < 0.3:
            del content[key]
    if status >= 400:
        content = {"error": chance.choice([*CODES, sent]), "error_description": f"wrong: {sent}"}
    body = json.dumps(content).encode()
    bodies = [
        (body, True),
        (body + chance.choice([b"\n", b"{}", b"<!-- x -->", b"\0"]), True),
        (f"<html><h1>{sent}</h1></html>".encode(), False),
        (chance.randbytes(chance.randrange(200)), False),
        (b"[" * chance.choice([10, 3000, 200_000]), False),
    ]
    ((body, is_readable),) = chance.choices(bodies, [86, 3, 6, 3, 2])
    headers = chance.sample(HEADERS, chance.choice([0, 0, 0, 1, 3]))
    is_harmless = all(line in HARMLESS for line in headers)
    if "Content-Encoding: gzip" in headers and chance.random() < 0.7:
        is_bomb = chance.random() < 0.1
        body, is_readable = gzip.compress(b" " * 3_000_000 if is_bomb else body), is_readable and not is_bomb
    sound = _framed(chance, status, [line.replace("{secret}", sent) for line in headers], body)
    whole = _damaged(chance, sound)
    endings: list[Loss] = ["closed", "reset", "hang"]
    (ending,) = chance.choices(endings, [94, 6, 0.3])
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.choice([0, 0, 0, 1, 3])))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    # A reset may overtake what was sent before it.
    must_arrive = status == 200 and is_readable and is_harmless and whole is sound and ending != "reset"
    is_there = content.get("refresh_token") == refresh_token
    return Script(pieces, ending, refresh_token if must_arrive and is_there else None)


def _framed(chance: random.Random, status: int, headers: list[str], body: bytes) -> bytes:
    interim = chance.choice([b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
    framing = chance.choice(["length", "length", "close", "chunked", "too long"])
    if framing == "chunked":
        headers = [*headers, "Transfer-Encoding: chunked"]
        size = chance.choice([1, 7, 1000]) if len(body) < 2000 else 100_000
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif framing != "close":
        headers = [*headers, f"Content-Length: {len(body) + (5 if framing == 'too long' else 0)}"]
    head = "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status} Text", *headers, ""])
    return interim + head.encode("latin-1", "replace") + body


def _damaged(chance: random.Random, whole: bytes) -> bytes:
    """*whole* itself, or with some bytes changed, or cut short."""
    damage = chance.random()
    if damage >= 0.1:
        return whole[: chance.randrange(len(whole))] if damage < 0.2 else whole
    changed = bytearray(whole)
    for _ in range(chance.choice([1, 1, 3, 20])):
        position = chance.randrange(len(changed) + 1)
        changed[position : position + chance.choice([0, 1, 1, 5])] = chance.randbytes(chance.choice([0, 1, 1, 5]))
    return bytes(changed)


def ask(chance: random.Random, virtuous: Virtuous, harness: LeakHarness) -> tuple[Script, Answer | Proof]:
    """One request and its random answer. Raises AssertionError; leaks show in *harness*."""
    sent = harness.secret(f"sent-{chance.randrange(10**12):012}+/=")
    scripted = script(chance, sent, harness)

    def deliver(wire: Any, _: object) -> None:
        for piece in scripted.pieces:
            wire.send(piece)
        wire.lose(scripted.ending)

    step = Step(deliver=deliver)
    # Where nothing hangs, a busy machine may take its time.
    bound = REQUEST_SECONDS if scripted.ending == "hang" else REQUEST_SECONDS + SLACK_SECONDS
    endpoint = TokenEndpoint(virtuous.base_url, clock=lambda: NOW, request_seconds=bound)
    started = time.monotonic()
    call = chance.choice(["refresh", "log_in", "prove"])
    secret = SecretText(sent)
    answer: Answer | Proof
    if call == "prove":
        virtuous.script_organization(step)
        answer = endpoint.prove(secret)
    else:
        virtuous.script(step)
        answer = endpoint.refresh(secret) if call == "refresh" else endpoint.log_in("me@example.org", secret)
    seconds = time.monotonic() - started
    harness.watch(answer)
    assert isinstance(answer, get_args(Proof if call == "prove" else Answer)), f"{call} returned {type(answer)}"
    assert seconds <= bound + SLACK_SECONDS, f"{call} took {seconds:.2f} s"
    if call != "prove" and scripted.must_keep:
        kept = answer.refresh_token if isinstance(answer, Granted) else None
        assert kept == SecretText(scripted.must_keep), f"a refresh token was thrown away: {answer}"
    return scripted, answer


def run(seed: int, numbers: Sequence[int], *, shows: bool = False) -> tuple[Counter[str], list[str]]:
    """How many answers of each type there were, and whatever should not have been."""
    kinds: Counter[str] = Counter()
    surprises: list[str] = []
    harness = LeakHarness()
    harness.hears_libraries = True
    with harness.listening(), Virtuous() as virtuous:
        for number in numbers:
            try:
                scripted, answer = ask(random.Random(f"{seed}/{number}"), virtuous, harness)
                kinds[type(answer).__name__] += 1
                if shows:
                    print(scripted.ending, *scripted.pieces, answer, sep="\n")
            except Exception as error:  # noqa: BLE001 (any exception at all is what is looked for)
                surprises.append(f"answer {number}: {type(error).__name__}: {error}")
    return kinds, surprises + [f"answers {numbers[0]} to {numbers[-1]}: {leak}" for leak in harness.leaks()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz_token_endpoint", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--only", type=int, help="the number of one answer")
    chosen = parser.parse_args(argv)
    print(f"{chosen.answers} answers, seed {chosen.seed}", flush=True)
    started = time.monotonic()
    if chosen.only is not None:
        results = [run(chosen.seed, [chosen.only], shows=True)]
    else:
        batches = [range(chosen.answers)[start : start + BATCH] for start in range(0, chosen.answers, BATCH)]
        with ProcessPoolExecutor(2) as pool:
            results = list(pool.map(partial(run, chosen.seed), batches))
    kinds = sum((kinds for kinds, _ in results), Counter[str]())
    surprises = [surprise for _, found in results for surprise in found]
    print(*kinds.most_common(), f"in {time.monotonic() - started:.0f} s, {len(surprises)} surprises")
    print("\n".join(surprises[:20]))
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
