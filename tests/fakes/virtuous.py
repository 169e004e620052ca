"""A stand-in for Virtuous on loopback: the token endpoint, the call that proves a token, and misbehaviour on request.

It imports nothing of the product, so it is an independent judge of it. Every request travels through a real socket.

    with Virtuous() as virtuous:
        virtuous.script(answer_lost("reset"))
        ...  # POST to virtuous.base_url + "/Token"
        assert virtuous.generation == 2

A scripted POST takes one *step*, which says what differs from a normal exchange. Whether the grant happened is part of
a step's name or of its argument ``granted``, because it decides what the caller may still do with its refresh token.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Literal, NamedTuple, Self
from urllib.parse import parse_qsl

from .loopback import Server

Loss = Literal["reset", "closed", "hang"]

REFRESH_TOKEN_LIFE_SECONDS: Final = 365 * 86_400
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = {"Content-Type": "application/json;charset=UTF-8"}
TOKEN: Final = "/Token"
ORGANIZATION: Final = "/api/Organization/Current"
CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
DENIED: Final = "Authorization has been denied for this request."


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived. What may hold a secret stays out of its repr."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def form(self) -> dict[str, str]:
        """The decoded fields of the body; ValueError if it is no form or names a field twice."""
        pairs = parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise ValueError("a field is named twice")
        return fields


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer before it is put on the wire."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def head(self, **framing: str) -> bytes:
        """The status line and the headers, ended by the empty line; *framing* is in small letters."""
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, 'Scripted')}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in {**self.headers, **framing}.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Wire:
    """The connection to the client, as a delivery uses it. Nothing here outlives the stand-in."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self.send = connection.sendall
        self.pause = closing.wait
        self.ended = False
        self._connection = connection

    def lose(self, how: Loss) -> None:
        """End without another byte: by a reset, by an orderly close, or only when the client gives up."""
        self.ended = True
        if how == "reset":
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "hang":
            while self._connection.recv(4096):
                pass


@dataclass(frozen=True, slots=True)
class Step:
    """What differs from a normal exchange.

    *call* is called once the request is processed and before it is answered; it must end by itself.
    """

    instead: Answer | None = None
    granted: bool = True
    call: Callable[[Recorded], object] = lambda _: None
    edit: Callable[[Answer], Answer] = lambda normal: normal
    deliver: Callable[[Wire, Answer], None] | None = None


def answer(**fields: Any) -> Step:
    """The good answer with JSON fields changed or added. The grant happens."""

    def edit(normal: Answer) -> Answer:
        return dataclasses.replace(normal, body=json.dumps(json.loads(normal.body) | fields).encode())

    return Step(edit=edit)


def reply(
    status: int, body: str | bytes = b"", headers: Mapping[str, str] | None = None, *, granted: bool = False
) -> Step:
    """This answer in place of the normal one. Unless *granted*, the request is not processed."""
    content = body.encode() if isinstance(body, str) else body
    return Step(instead=Answer(status, headers or {}, content), granted=granted)


def bad_gateway(*, granted: bool = False) -> Step:
    """A proxy's 502 with a page of HTML."""
    page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    return reply(502, page, {"Content-Type": "text/html"}, granted=granted)


def throttled(retry_after: int) -> Step:
    """The rate limit's 429. The request is not processed."""
    return reply(429, "", {"Retry-After": str(retry_after)})


def refused(error: str = "invalid_grant", status: int = 400) -> Step:
    """The refusal of a refresh token. The request is not processed."""
    return reply(status, json.dumps({"error": error}), JSON)


def code_needed() -> Step:
    """The 202 that asks for a one-time code, though none was sent. The request is not processed."""
    return reply(202, json.dumps({"error": "awaiting_verification"}), JSON)


def denied() -> Step:
    """The 401 of the proof call, whatever the token. The request is not processed."""
    return reply(401, json.dumps({"message": DENIED}), JSON | CHALLENGE)


def redirect(location: str, status: int = 302) -> Step:
    """A redirect to another address. The request is not processed."""
    return reply(status, "", {"Location": location})


def answer_lost(how: Loss = "reset") -> Step:
    """The grant happens, and not a byte of the answer arrives."""
    return Step(deliver=lambda wire, _: wire.lose(how))


def truncated(keep: int = 40, *, chunked: bool = False, how: Loss = "closed") -> Step:
    """The grant happens, and the connection ends after *keep* bytes of a body announced as longer."""

    def deliver(wire: Wire, whole: Answer) -> None:
        size = len(whole.body)
        head = whole.head(content_length=str(size))
        if chunked:
            head = whole.head(transfer_encoding="chunked") + f"{size:x}\r\n".encode()
        wire.send(head + whole.body[:keep])
        wire.lose(how)

    return Step(deliver=deliver)


def drip(pause_seconds: float, *, head: bool = False) -> Step:
    """The grant happens, and the body (or all, with *head*) comes a byte at a time, a pause before each."""

    def deliver(wire: Wire, whole: Answer) -> None:
        start, rest = whole.head(content_length=str(len(whole.body))), whole.body
        if head:
            start, rest = b"", start + rest
        wire.send(start)
        for byte in rest:
            wire.pause(pause_seconds)
            wire.send(bytes([byte]))

    return Step(deliver=deliver)


def endless() -> Step:
    """The grant happens, and the body goes on until the client goes away."""

    def deliver(wire: Wire, whole: Answer) -> None:
        wire.send(whole.head(connection="close") + whole.body)
        while True:
            wire.send(b" " * 65_536)

    return Step(deliver=deliver)


def raw(data: bytes, *, granted: bool = False) -> Step:
    """These bytes in place of an HTTP answer, then the end of the connection."""

    def deliver(wire: Wire, _: Answer) -> None:
        wire.send(data)
        wire.lose("closed")

    return Step(granted=granted, deliver=deliver)


@dataclass(slots=True)
class Ticket:
    """A token that was issued, and whether it still works."""

    kind: str
    generation: int
    expires_at: float
    revoked: bool = False


class Event(NamedTuple):
    """What the stand-in did with one request, by the type of its grant or "organization"; it holds no secret."""

    call: str
    outcome: str
    generation_sent: int | None


class Virtuous:
    """The stand-in; it serves while its ``with`` lasts.

    There is one *user*, with a *password* that is made up unless it is given. A refresh token works once; a replaced
    access token is valid to its own end. With *two_factor* a login needs ``one_time_code``. Each answer comes
    *answer_seconds* after its request, which is processed at once.
    """

    def __init__(
        self,
        *,
        token_life_seconds: int = 1_295_999,
        user: str = "me@example.org",
        password: str | None = None,
        two_factor: bool = False,
        organization_name: str = "Example Relief",
        answer_seconds: float = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.user, self.password = user, password or f"password-{secrets.token_hex(8)}"
        self.token_life_seconds = token_life_seconds
        self.two_factor = two_factor
        self.answer_seconds = answer_seconds
        self.requests: list[Recorded] = []
        self.events: list[Event] = []
        self.generation = 0
        # Twelve digits, so that a search for a leaked code does not meet one by chance.
        self.one_time_code = f"{secrets.randbelow(10**12):012d}"
        self._organization: dict[str, object] = {
            "organizationUserId": 4711,
            "organizationName": organization_name,
            "organizationTimeZone": "Eastern Standard Time",
            "isAdministrator": True,
            "isEnabled": True,
        }
        self._now = now
        self._tickets: dict[str, Ticket] = {}
        self._other_secrets = {self.password, self.one_time_code}
        self._steps: dict[tuple[str, str], deque[Step]] = {("POST", TOKEN): deque(), ("GET", ORGANIZATION): deque()}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._server = Server(type("Requests", (_Requests,), {"virtuous": self}))
        self.port = self._server.port
        self.base_url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends requests in flight; afterwards no thread and no socket of ours is left."""
        self._closing.set()
        self._server.__exit__()

    # What a test looks at

    @property
    def token_requests(self) -> list[Recorded]:
        return [request for request in list(self.requests) if request.path == TOKEN]

    @property
    def live_refresh_token(self) -> str | None:
        """The newest refresh token that works."""
        return max(self.live_refresh_tokens, key=lambda token: self._tickets[token].generation, default=None)

    @property
    def live_refresh_tokens(self) -> frozenset[str]:
        return self._live_tokens("refresh")

    @property
    def live_access_tokens(self) -> frozenset[str]:
        return self._live_tokens("access")

    def secrets(self) -> frozenset[str]:
        """Every token, password, one-time code and cookie it ever issued or holds."""
        with self._lock:
            return frozenset({*self._tickets, *self._other_secrets})

    def state(self) -> dict[str, dict[str, int]]:
        """How many refresh grants were made and refused so far."""
        outcomes = [event.outcome for event in list(self.events) if event.call == "refresh_token"]
        return {"refreshes": {"accepted": outcomes.count("granted"), "refused": outcomes.count("refused")}}

    # What a test does

    def script(self, *steps: Step) -> None:
        """The next POSTs to /Token take these steps, one each, in order of arrival."""
        with self._lock:
            self._steps["POST", TOKEN].extend(steps)

    def script_organization(self, *steps: Step) -> None:
        """The next calls of /api/Organization/Current take these steps, one each."""
        with self._lock:
            self._steps["GET", ORGANIZATION].extend(steps)

    def issue_pair(self) -> dict[str, object]:
        """A new generation of tokens, as a login makes it; the JSON of the good answer."""
        with self._lock:
            return self._issue()

    def revoke_refresh_token(self, token: str | None = None) -> None:
        """Make one refresh token, or all, worthless."""
        self._revoke({token} if token else self.live_refresh_tokens)

    def revoke_access_tokens(self, token: str | None = None) -> None:
        """Make one access token, or all, worthless."""
        self._revoke({token} if token else self.live_access_tokens)

    def switch_organization(self, organization_id: int | str, name: str) -> None:
        """Another organisation is the active one from now on, for every session."""
        with self._lock:
            self._organization |= {"organizationUserId": organization_id, "organizationName": name}

    # Tokens

    def _is_live(self, kind: str, token: str) -> bool:
        ticket = self._tickets.get(token)
        return ticket is not None and ticket.kind == kind and not ticket.revoked and self._now() < ticket.expires_at

    def _live_tokens(self, kind: str) -> frozenset[str]:
        with self._lock:
            return frozenset(token for token in self._tickets if self._is_live(kind, token))

    def _revoke(self, tokens: Iterable[str]) -> None:
        with self._lock:
            for token in tokens:
                self._tickets[token].revoked = True

    def _issue(self) -> dict[str, object]:
        self.generation += 1
        issued_at = self._now()
        expires_at = issued_at + self.token_life_seconds
        access, refresh = (f"{kind}-{self.generation}-{secrets.token_hex(8)}" for kind in ("access", "refresh"))
        self._tickets[access] = Ticket("access", self.generation, expires_at)
        self._tickets[refresh] = Ticket("refresh", self.generation, issued_at + REFRESH_TOKEN_LIFE_SECONDS)
        return {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": self.token_life_seconds,
            "refresh_token": refresh,
            "userName": self.user,
            "twoFactorEnabled": str(self.two_factor),
            ".issued": formatdate(issued_at, usegmt=True),
            ".expires": formatdate(expires_at, usegmt=True),
        }

    # Answers, those to a grant with what was done

    def _granted(self) -> tuple[str, Answer]:
        content, cookie = self._issue(), f"cookie-{secrets.token_hex(8)}"
        self._other_secrets.add(cookie)
        set_cookie = {"Set-Cookie": f".AspNet.Cookies={cookie}; path=/; secure; HttpOnly"}
        return "granted", _json(200, content, {"Cache-Control": "no-cache", "Pragma": "no-cache"} | set_cookie)

    def _token(self, request: Recorded) -> Answer:
        if (request.header("Content-Type") or "").partition(";")[0].strip().lower() != FORM:
            return _json(415, {"error": "invalid_request"})
        try:
            fields = request.form()
        except ValueError:
            return _json(400, {"error": "invalid_request"})
        grant_type, token = fields.get("grant_type", ""), fields.get("refresh_token", "")
        match grant_type:
            case "password":
                outcome, result = self._password_grant(fields)
            case "refresh_token":
                outcome, result = self._refresh_grant(token)
            case _:
                return _json(400, {"error": "unsupported_grant_type"})
        self._note(grant_type, outcome, token)
        return result

    def _password_grant(self, fields: Mapping[str, str]) -> tuple[str, Answer]:
        if (fields.get("username"), fields.get("password")) != (self.user, self.password):
            return _refusal("The user name or password is incorrect.")
        if self.two_factor and "otp" not in fields:
            said = "A verification code has been sent to your phone."
            return "code_sent", _json(202, {"error": "awaiting_verification", "error_description": said})
        if self.two_factor and fields["otp"] != self.one_time_code:
            return _refusal("The one-time code is incorrect.")
        return self._granted()

    def _refresh_grant(self, token: str) -> tuple[str, Answer]:
        if not self._is_live("refresh", token):
            return _refusal()
        self._tickets[token].revoked = True
        return self._granted()

    def _organization_current(self, request: Recorded) -> Answer:
        presented = [value for name, value in request.headers if name.lower() == "authorization"]
        token = presented[0].removeprefix("Bearer ") if len(presented) == 1 else ""
        is_accepted = presented == [f"Bearer {token}"] and self._is_live("access", token)
        self._note("organization", "accepted" if is_accepted else "denied", token)
        return _json(200, self._organization) if is_accepted else _json(401, {"message": DENIED}, CHALLENGE)

    # Exchanges

    def _process(self, request: Recorded) -> Answer:
        """Do what the request asks for."""
        with self._lock:
            if (request.method, request.path) == ("POST", TOKEN):
                return self._token(request)
            if (request.method, request.path) == ("GET", ORGANIZATION):
                return self._organization_current(request)
            return _json(404, {"message": "No HTTP resource was found."})

    def _note(self, call: str, outcome: str, token: str) -> None:
        sent = self._tickets.get(token)
        self.events.append(Event(call, outcome, sent.generation if sent else None))

    def _exchange(self, request: Recorded, wire: Wire) -> None:
        with self._lock:
            self.requests.append(request)
            steps = self._steps.get((request.method, request.path))
            step = steps.popleft() if steps else Step()
        normal = self._process(request) if step.granted else Answer(500)
        result = step.instead or normal
        step.call(request)
        date = {"Date": formatdate(self._now(), usegmt=True)}
        result = step.edit(dataclasses.replace(result, headers=date | dict(result.headers)))
        wire.pause(self.answer_seconds)
        (step.deliver or _send)(wire, result)


def _json(status: int, content: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {**JSON, **(headers or {})}, json.dumps(content).encode())


def _refusal(description: str | None = None) -> tuple[str, Answer]:
    said = {"error_description": description} if description else {}
    return "refused", _json(400, {"error": "invalid_grant", **said})


def _send(wire: Wire, whole: Answer) -> None:
    wire.send(whole.head(content_length=str(len(whole.body))) + whole.body)


class _Requests(BaseHTTPRequestHandler):
    """The requests of one connection, read by the standard library."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what is sent in pieces would wait 40 ms for each acknowledgement
    virtuous: Virtuous

    def _serve_one(self) -> None:
        virtuous = self.virtuous
        wire = Wire(self.connection, virtuous._closing)
        announced = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(announced)
        if len(body) < announced:  # half a request is not processed
            wire.lose("closed")
        else:
            virtuous._exchange(Recorded(self.command, self.path, tuple(self.headers.items()), body), wire)
        self.close_connection = self.close_connection or wire.ended

    do_GET = do_POST = _serve_one  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: what was sent is in ``Virtuous.requests``."""
