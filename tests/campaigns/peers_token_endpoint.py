"""The OAuth clients that people use and ours, side by side over the same odd answers of a token endpoint.

Each refreshes one stored refresh token at the stand-in for Virtuous. Told is what becomes of the stored refresh token,
how often it was sent, to whom, and whether a token shows in what is logged at DEBUG or in the text of an exception.

    make --silent peers > table.md     the table of docs/decisions/odd-answers.md; makes an environment of its own
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

from tests.fakes import virtuous as fake
from tests.fakes.virtuous import Step, Virtuous
from tests.leak_harness import LeakHarness
from token_refresher.refresh.model import Granted
from token_refresher.virtuous.endpoint import TokenEndpoint
from token_refresher.virtuous.transcript import read_response
from virtuous_token.secret_text import SecretText

ANSWERS: dict[str, Step] = {
    "a good answer": fake.answer(),
    "no `refresh_token`": fake.answer(drop=["refresh_token"]),
    "`refresh_token` null": fake.answer(refresh_token=None),
    "`refresh_token` empty": fake.answer(refresh_token=""),
    "`refresh_token` a number": fake.answer(refresh_token=12345),
    '`expires_in` `"1295999"`': fake.answer(expires_in="1295999"),
    '`expires_in` `"1295999.7"`': fake.answer(expires_in="1295999.7"),
    '`expires_in` `"soon"`': fake.answer(expires_in="soon"),
    "`expires_in` null": fake.answer(expires_in=None),
    "`expires_in` a list": fake.answer(expires_in=[1]),
    "`expires_in` -1": fake.answer(expires_in=-1),
    "`expires_in` 10¹²": fake.answer(expires_in=10**12),
    "no `expires_in`": fake.answer(drop=["expires_in"]),
    "no `token_type`": fake.answer(drop=["token_type"]),
    "`scope` a number": fake.answer(scope=5),
    "no `access_token`": fake.answer(drop=["access_token"]),
    "`access_token` null": fake.answer(access_token=None),
    "`access_token` with a line end": fake.answer(access_token="access\ntoken"),
    "a list round it": fake.rewrite(lambda body: b"[" + body + b"]"),
    "HTML behind it": fake.rewrite(lambda body: body + b"<html></html>"),
    "a byte order mark before it": fake.rewrite(lambda body: b"\xef\xbb\xbf" + body),
    "a name in Latin-1": fake.rewrite(lambda body: body.replace(b"me@", b"m\xe9@")),
    "`Content-Length` too long": fake.headers({"Content-Length": "100000"}),
    "`chunked` with a blank behind it": fake.rewrite(lambda body: b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    | fake.headers({"Transfer-Encoding": "chunked "}),
    "chunks that no header names": fake.rewrite(lambda body: b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    | fake.headers({"Connection": "close"}),
    "raw deflate": fake.rewrite(lambda body: zlib.compress(body, wbits=-15))
    | fake.headers({"Content-Encoding": "deflate"}),
    "gzip named `deflate`": fake.rewrite(gzip.compress) | fake.headers({"Content-Encoding": "deflate"}),
    "150 header lines": fake.headers({f"X-{number}": "y" for number in range(150)}),
    "UTF-16 without a mark": fake.rewrite(lambda body: body.decode().encode("utf-16-le")),
    "truncated": fake.truncated(),
    "200 in HTML": fake.reply(200, "<html></html>"),
    "202 `awaiting_verification`": fake.code_needed(),
    "400 `invalid_grant`": fake.refused(),
    "400 that echoes the token": Step("echo"),
    "401 in plain text": fake.reply(401, "Authorization has been denied for this request."),
    "429": fake.throttled(847),
    "500": fake.reply(500, '{"error":"server_error"}'),
    "502 after the grant": fake.bad_gateway(granted=True),
    "503": fake.reply(503),
    "reset after the grant": fake.answer_lost("reset"),
    "302 to another host": fake.redirect("{elsewhere}", 302),
    "307 to another host": fake.redirect("{elsewhere}", 307),
}


class Told(NamedTuple):
    """What a client did: the refresh token that it holds afterwards, and its verdict or its exception."""

    held: object
    verdict: str
    error: BaseException | None = None


Client = Callable[[str, str], Told]


def ours(base_url: str, token: str) -> Told:
    answer = TokenEndpoint(base_url, clock=lambda: datetime.now(UTC)).refresh(SecretText(token))
    # The core keeps the stored token unless a grant brings another.
    kept = answer.refresh_token.reveal() if isinstance(answer, Granted) and answer.refresh_token else token
    return Told(kept, "granted" if isinstance(answer, Granted) else answer.ending.replace("_", " "))


def requests_oauthlib(base_url: str, token: str) -> Told:
    client: Any = import_module("oauthlib.oauth2").LegacyApplicationClient("client")
    stored = {"access_token": "access-0", "refresh_token": token, "token_type": "Bearer", "expires_in": -1}
    session: Any = import_module("requests_oauthlib").OAuth2Session(client=client, token=stored)
    return _asked(lambda: session.refresh_token(f"{base_url}/Token"), lambda: session.token.get("refresh_token"))


def authlib(base_url: str, token: str) -> Told:
    stored = {"access_token": "access-0", "refresh_token": token, "token_type": "Bearer", "expires_at": 1}
    settings = {"token_endpoint_auth_method": "none"}
    client: Any = import_module("authlib.integrations.requests_client")
    session = client.OAuth2Session("client", token=stored, **settings)
    return _asked(lambda: session.refresh_token(f"{base_url}/Token"), lambda: session.token.get("refresh_token"))


def google_auth(base_url: str, token: str) -> Told:
    client: Any = import_module("google.oauth2.credentials")
    transport: Any = import_module("google.auth.transport.requests")
    credentials = client.Credentials("access-0", token, None, f"{base_url}/Token", "client", "")
    return _asked(lambda: credentials.refresh(transport.Request()), lambda: credentials.refresh_token)


CLIENTS: dict[str, Client] = {
    "ours": ours,
    "requests-oauthlib": requests_oauthlib,
    "authlib": authlib,
    "google-auth": google_auth,
}


def _asked(refresh: Callable[[], object], held: Callable[[], object]) -> Told:
    try:
        refresh()
    except Exception as error:  # noqa: BLE001 (which one is what we want to know)
        return Told(held(), type(error).__name__, error)
    return Told(held(), "success")


def cell(step: Step, client: Client, seen: Counter[str]) -> str:
    """What *client* did with the answer of *step*, in a few words; what showed a token is counted in *seen*."""
    with Virtuous() as virtuous, Virtuous() as elsewhere:
        first = str(virtuous.issue_pair()["refresh_token"])
        step = _completed(step, first, elsewhere)
        virtuous.script(*[step] * 10)
        harness = LeakHarness()
        harness.hears_libraries = True
        harness.know(virtuous)
        with harness.listening():
            outcome = client(virtuous.base_url, first)
        seen["log"] += bool(harness.leaks())
        harness.clear()
        harness.know(virtuous)
        if outcome.error is not None:
            harness.watch(outcome.error)
            seen["exception"] += bool(harness.leaks())
        issued = virtuous.live_refresh_token if virtuous.generation > 1 else None
        words = [_fate(outcome.held, first, issued, _is_sent(step)), outcome.verdict]
        if len(virtuous.token_requests) > 1:
            words.append(f"**sent {len(virtuous.token_requests)} times**")
        if any(first.encode() in request.body for request in elsewhere.requests):
            words.append("**token sent to the other host**")
        elif elsewhere.requests:
            words.append("followed")
        return ", ".join(words)


def _completed(step: Step, token: str, elsewhere: Virtuous) -> Step:
    if step.name == "echo":
        return fake.reply(400, json.dumps({"error": "invalid_grant", "error_description": f"{token} is unknown"}))
    if step.instead is not None and dict(step.instead.headers).get("Location") == "{elsewhere}":
        return fake.redirect(f"{elsewhere.base_url}/Token", step.instead.status)
    return step


def _is_sent(step: Step) -> bool:
    """True if a new refresh token can be read out of the answer."""
    if step.instead is not None or step.deliver is not None:
        return False
    example = fake.Answer(200, (), json.dumps({"refresh_token": "example"}).encode())
    for edit in step.edits:
        example = edit(example)
    if example.body.startswith(b"["):
        return False
    read = read_response(b"HTTP/1.1 200 OK\r\n\r\n" + example.body, ended=True)
    return read is not None and b"example" in read.body.replace(b"\0", b"")


def _fate(held: object, first: str, issued: str | None, is_sent: bool) -> str:
    if held == issued and issued is not None:
        return "new token"
    if held == first:
        return "**new token lost**" if is_sent else "old token"
    return "**old token erased**" if not held else f"**{type(held).__name__} stored**"


def table() -> Iterator[str]:
    seen: dict[str, Counter[str]] = {name: Counter() for name in CLIENTS}
    yield "| answer | " + " | ".join(CLIENTS) + " |"
    yield "|---" * (len(CLIENTS) + 1) + "|"
    for name, step in ANSWERS.items():
        cells = [cell(step, client, seen[who]) for who, client in CLIENTS.items()]
        if len({text.split(", ")[0] for text in cells}) > 1 or any("**" in text for text in cells):
            yield f"| {name} | {' | '.join(cells)} |"
    for where, label in (("log", "answers with a token in a log at DEBUG"), ("exception", "with one in an exception")):
        yield f"| *{label}* | " + " | ".join(str(seen[who][where]) for who in CLIENTS) + " |"
    yield ""
    peers = ", ".join(f"{name} {version(name)}" for name in CLIENTS if name != "ours")
    yield f"{len(ANSWERS)} answers; {peers}; Python {sys.version.split()[0]}."


def main() -> int:
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the stand-in is on loopback
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        os.environ.pop(name, None)
    logging.basicConfig(handlers=[logging.NullHandler()])
    for line in table():
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
