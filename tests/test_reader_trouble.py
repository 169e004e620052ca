"""What AWS's side of a read can end in: one of our errors, which says what failed, what mends it, and no secret.

Credentials of every kind that botocore knows, Regions, endpoints, certificates and answers are tried with a real
botocore client; only what it talks to is played.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, TokenRetrievalError

from tests.fakes.loopback import JsonHandler, serving
from tests.fakes.one_bearer import NAME, OneBearer
from tests.fakes.relay import certificate
from tests.fakes.secrets_manager import StrictSecretsManager
from virtuous_token import (
    NoSuchSecret,
    NotAllowed,
    NotConfigured,
    NotLoggedIn,
    TokenReader,
    Unreachable,
    UnreadableSecret,
    VirtuousTokenError,
)

ARN = f"arn:aws:secretsmanager:eu-west-3:123456789012:secret:{NAME}-AbCdEf"
ROLE = "arn:aws:iam::123456789012:role/reader"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cret-of-aws"}
WEB_IDENTITY = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/identity"}
CONTAINER = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
SOURCE = f"role_arn={ROLE}\nsource_profile=s\n[profile s]\naws_access_key_id=a\naws_secret_access_key=s3cret-of-aws\n"
SSO_ROLE = "sso_account_id=123456789012\nsso_role_name=r\n"
SSO_PORTAL = "sso_start_url=https://x/start\nsso_region=eu-west-1\n"
CLOSED = "http://127.0.0.1:9"
PORTAL = "<html>Sign in to the network: s3cret</html>"


def answered(status: int, body: str) -> str:
    """Names an answer for the stand-in: it is put into its address."""
    return f"{{serve}}:{status}:{body}"


def sts(status: int, code: str) -> dict[str, str]:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>s3cret</Message></Error>"
    return {"AWS_ENDPOINT_URL_STS": answered(status, f"<ErrorResponse>{error}</ErrorResponse>")}


def profile(settings: str) -> dict[str, str]:
    """``config`` is no variable but the text of AWS's config file."""
    return {"AWS_PROFILE": "p", "config": f"[profile p]\n{settings}"}


def endpoint(url: str) -> dict[str, str]:
    return {**KEYS, "AWS_ENDPOINT_URL": url}


Trouble = dict[str, tuple[dict[str, str], str]]
NOT_CONFIGURED: Trouble = {
    "no credentials": ({}, "no AWS credentials"),
    "half of the keys": ({"AWS_ACCESS_KEY_ID": "a"}, "AWS gives no credentials.*set up wrongly"),
    "a web identity token file that is missing": (
        {**WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/missing"},
        "missing' cannot be read",
    ),
    "an STS that refuses the role": (
        {**WEB_IDENTITY, **sts(403, "AccessDenied")},
        r"AssumeRoleWithWebIdentity was refused \(AccessDenied\): .*trust policy",
    ),
    "a profile's role that is refused": (
        {**profile(SOURCE), **sts(403, "AccessDenied")},
        "AssumeRole was refused .*trust policy.*sts:AssumeRole.*the caller's credentials work",
    ),
    "a profile's role with MFA": (
        profile(f"mfa_serial=arn:aws:iam::123456789012:mfa/me\n{SOURCE}"),
        "MFA code, a reader asks nobody",
    ),
    "a profile that is missing": ({"AWS_PROFILE": "x"}, "no such profile"),
    "a process that prints text": (profile("credential_process=/bin/echo s3cret"), "by hand"),
    "a process that is missing": (profile("credential_process=/missing/x"), "cannot be read"),
    "an SSO session that has ended": (profile(SSO_PORTAL + SSO_ROLE), "aws sso login"),
    "an SSO session of the newer kind": (
        profile(f"sso_session=s\n{SSO_ROLE}[sso-session s]\n{SSO_PORTAL}"),
        "aws sso login",
    ),
    "a list in place of a container's credentials": (
        {CONTAINER: answered(200, "[]")},
        f"answer holds none.*{CONTAINER}",
    ),
    "a spoiled config file": ({**KEYS, "config": "no config"}, "ConfigParseError.*the profile"),
    "a Region with blanks": ({**KEYS, "AWS_REGION": "eu west 1"}, "'eu west 1'"),
    "a misspelt Region": (
        {**KEYS, "AWS_REGION": "eu-wset-1"},
        r"'eu-wset-1' \(from AWS_REGION\).*no such Region; correct it in AWS_REGION",
    ),
    "no Region": ({**KEYS, "AWS_REGION": ""}, "no Region is named"),
    "no endpoint": (endpoint("s3cret://"), "settings .* not valid"),
    "keys with a line break": ({**endpoint(CLOSED), "AWS_ACCESS_KEY_ID": "a\nb"}, "settings .* not valid"),
    "a certificate of nobody's": (endpoint("{tls}"), "AWS_CA_BUNDLE"),
    "a bundle of certificates that is missing": (
        {**endpoint(CLOSED), "AWS_CA_BUNDLE": "/missing/ca.pem"},
        "AWS_CA_BUNDLE names '/missing/ca.pem', which holds no certificates",
    ),
    "one without certificates": (
        {**endpoint(CLOSED), "REQUESTS_CA_BUNDLE": "{folder}/identity"},
        "REQUESTS_CA_BUNDLE names '.*/identity', which holds no certificates",
    ),
    "such a bundle in the profile": (
        {**KEYS, **profile("ca_bundle={folder}/config")},
        "the profile's ca_bundle names '.*/config', which holds no certificates",
    ),
}
NOT_AWS = "not one of AWS's"
UNREACHABLE: Trouble = {
    "an STS that cannot be reached": (
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": CLOSED},
        "gives no credentials.*could not be reached",
    ),
    "an STS that throttles": ({**WEB_IDENTITY, **sts(400, "Throttling")}, "later calls try again"),
    "a container's credentials that cannot be reached": (
        {CONTAINER: f"{CLOSED}/c"},
        "no credentials.*could not be",
    ),
    "nobody at the endpoint": (endpoint(CLOSED), "could not be reached; later"),
    "a proxy that cannot be reached": ({**endpoint("https://aws.example"), "HTTPS_PROXY": CLOSED}, "HTTPS_PROXY"),
    "a login page in place of Secrets Manager": (endpoint(answered(200, PORTAL)), NOT_AWS),
    "a login page with 403": (endpoint(answered(403, PORTAL)), NOT_AWS),
    "a list where an object should be": (endpoint(answered(200, '["s3cret"]')), NOT_AWS),
    "a list where text should be": (endpoint(answered(200, '{"SecretString": ["s3cret"]}')), NOT_AWS),
    "a list as a refusal": (endpoint(answered(400, '["s3cret"]')), NOT_AWS),
}
UNREADABLE: Trouble = {"bytes for text": (endpoint(answered(200, '{"SecretBinary": "czNjcmV0"}')), "holds bytes")}

World = Callable[[Mapping[str, str]], None]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """Sets environment and files, and serves the answers that the environment names."""
    (tmp_path / "identity").write_text("web identity")
    (tmp_path / "config").touch()
    with ExitStack() as servers:

        def place(value: str) -> str:
            if value.startswith("{serve}:"):
                _, status, body = value.split(":", 2)

                class Handler(JsonHandler):
                    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
                        self.rfile.read(int(self.headers.get("Content-Length", 0)))
                        self.send_response(int(status))
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body.encode())

                    do_GET = do_POST  # noqa: N815

                return servers.enter_context(serving(Handler))
            if value == "{tls}":
                return servers.enter_context(with_tls(tmp_path))
            return value.replace("{folder}", str(tmp_path))

        def arrange(environment: Mapping[str, str]) -> None:
            settings = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path), "AWS_REGION": "eu-west-1"}
            for name, value in {**settings, **environment}.items():
                if name == "config":
                    (tmp_path / name).write_text(place(value))
                else:
                    monkeypatch.setenv(name, place(value))

        yield arrange


@contextmanager
def with_tls(folder: Path) -> Iterator[str]:
    """A server whose certificate nobody vouches for."""
    context, _ = certificate(folder, "localhost")

    def greet() -> None:
        with suppress(OSError):  # once it is shut down
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ssl.SSLError, ConnectionError):
                    context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=greet)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("kind", "environment", "advice"),
    [
        pytest.param(kind, *row, id=what)
        for kind, rows in [(NotConfigured, NOT_CONFIGURED), (Unreachable, UNREACHABLE), (UnreadableSecret, UNREADABLE)]
        for what, row in rows.items()
    ],
)
def test_trouble_is_one_of_our_errors_that_says_what_mends_it(
    kind: type[VirtuousTokenError],
    environment: dict[str, str],
    advice: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world(environment)
    piped = io.StringIO("me@example.org\n")
    monkeypatch.setattr(sys, "stdin", piped)
    reader = TokenReader(NAME)
    with pytest.raises(kind, match=advice) as raised:
        reader.token()
    assert "s3cret" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    if kind is NotConfigured:  # at once
        assert not reader.report_rejected("access-0")
        assert not asyncio.run(reader.async_report_rejected("access-0"))
    assert piped.tell() == 0, "the program's input was read"


def test_credentials_whose_service_cannot_be_reached_ask_for_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: object) -> None:
        raise TokenRetrievalError(provider="sso", error_msg="x") from EndpointConnectionError(endpoint_url=CLOSED)

    monkeypatch.setattr("botocore.session.Session.get_credentials", unreachable)
    with pytest.raises(Unreachable, match=r"gives no credentials.*TokenRetrievalError.*could not be reached"):
        TokenReader(ARN).token()


@pytest.mark.parametrize(
    ("made", "refused", "is_described", "kind", "advice"),
    [
        ("whole", "AccessDeniedException", True, NotAllowed, "reader policy.*kms:Decrypt.*misspelt name is refused"),
        ("whole", "DecryptionFailure", True, NotAllowed, "kms:Decrypt"),
        ("whole", "UnrecognizedClientException", True, NotConfigured, "renew .*Region is enabled"),
        ("whole", "InvalidSignatureException", True, NotConfigured, "this machine's clock"),
        ("whole", "ValidationException", True, NotConfigured, "for a name or an ARN"),
        ("whole", "ThrottlingException", True, Unreachable, "later calls try again"),
        ("whole", "A code that nobody knows yet", True, Unreachable, "later calls try again"),
        ("whole", "ReadTimeoutError", True, Unreachable, "could not be reached"),
        ("whole", "InvalidRequestException", True, NotAllowed, "another account.*key of its own"),
        ("sealed", "", True, NotAllowed, "reader policy.*kms:Decrypt"),
        ("none", "", True, NoSuchSecret, "there is no secret 'virtuous/default/bearer'.*AWS_REGION"),
        ("none", "", False, NotLoggedIn, "or does not exist.*virtuous-token login"),
        ("empty", "", True, NotLoggedIn, "virtuous-token login"),
        ("deleted", "", True, NoSuchSecret, "marked for deletion.*restore-secret"),
        ("deleted", "", False, NoSuchSecret, "marked for deletion.*restore-secret.*belongs to another account"),
    ],
)
def test_a_refusal_and_the_state_of_the_secret_are_told(
    made: str, refused: str, is_described: bool, kind: type[VirtuousTokenError], advice: str
) -> None:
    strict = StrictSecretsManager()
    client: Any = strict.client()
    if made != "none":
        client.create_secret(Name=NAME, **({} if made == "empty" else {"SecretString": "{}"}))
    if made == "deleted":
        client.delete_secret(SecretId=NAME)
    if made == "sealed":
        strict.refuse_kms(NAME, "kms:Decrypt")
    if refused:
        strict.fail("GetSecretValue", refused)
    if not is_described:
        strict.fail("DescribeSecret", "AccessDeniedException")
    with pytest.raises(kind, match=advice) as raised:
        TokenReader(NAME, client=client).token()
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("environment", "secret_id", "region"),
    [
        pytest.param({"AWS_REGION": "eu-west-1"}, ARN, "'eu-west-3' (from the ARN)", id="the ARN's before all others"),
        pytest.param({"AWS_REGION": "eu-west-1"}, NAME, "'eu-west-1' (from AWS_REGION)", id="then AWS_REGION"),
        pytest.param({"AWS_REGION": " "}, NAME, "'eu-west-2' (from AWS_DEFAULT_REGION)", id="then AWS_DEFAULT_REGION"),
        pytest.param(
            {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, NAME, "'eu-north-1' (from the profile)", id="then the profile"
        ),
    ],
)
def test_the_region_that_is_asked_is_named(
    environment: dict[str, str], secret_id: str, region: str, world: World
) -> None:
    config = "[default]\nregion=eu-north-1"
    world({**endpoint(answered(200, "{}")), "AWS_DEFAULT_REGION": "eu-west-2", "config": config, **environment})
    with pytest.raises(Unreachable) as raised:
        TokenReader(secret_id).token()
    assert f"in Region {region}" in str(raised.value)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", id="a JSON Web Token"),
        pytest.param("v_eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", id="an API key"),
        pytest.param("Ab3_-" * 116 + "xy", id="a token of 582 characters"),
        pytest.param("Bearer Ab3xAb3xAb3x", id="a header"),
    ],
)
def test_a_token_in_the_place_of_the_name_is_neither_quoted_nor_sent_to_aws(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OneBearer()
    monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", token)
    for reader in (TokenReader(client=source), TokenReader(token, client=source), TokenReader(token)):
        with pytest.raises(NotConfigured, match="not the token") as raised:
            reader.token()
        assert token not in f"{raised.value} {reader!r}"
    assert source.reads == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("prod/crm-2/bearer", "prod/crm-2/bearer", id="one of ours"),
        pytest.param(long := f"{ARN}{'-the-crm-of' * 9}", long, id="a long ARN"),
        pytest.param("the-crm-of-" * 9 + "a-bearer", "the-crm-of-" * 9 + "a-bearer", id="a long one without a slash"),
        pytest.param("access-1-ff94beb5de64b502", "access-1-***", id="something random in it"),
    ],
)
def test_a_name_is_shown_and_read(name: str, shown: str) -> None:
    source = OneBearer()
    reader = TokenReader(name, client=source, clock=source.clock)
    assert (reader.token(), repr(reader), source.asked[0][0]) == ("access-1", f"TokenReader({shown!r})", name)
