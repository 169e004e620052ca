"""What AWS's side of a read can end in: one of our errors, which says what failed, what mends it, and no secret.

Credentials of every kind that botocore knows, Regions, endpoints, certificates and answers are tried with a real
botocore client; only what it talks to is played.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.loopback import serving
from tests.fakes.one_bearer import EpochClock, OneBearer
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
from virtuous_token.errors import can_be_name, shown

NAME = "virtuous/default/bearer"
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
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>s3cret</Message></Error></ErrorResponse>"
    )
    return {"AWS_ENDPOINT_URL_STS": answered(status, body)}


def profile(settings: str) -> dict[str, str]:
    """``config`` is no variable but the text of AWS's config file."""
    return {"AWS_PROFILE": "p", "config": f"[profile p]\n{settings}"}


def endpoint(url: str) -> dict[str, str]:
    return {**KEYS, "AWS_ENDPOINT_URL": url}


TROUBLE: dict[str, tuple[dict[str, str], type[VirtuousTokenError], str]] = {
    # Credentials
    "no credentials": ({}, NotConfigured, "no AWS credentials"),
    "half of the keys": ({"AWS_ACCESS_KEY_ID": "a"}, NotConfigured, "AWS gives no credentials.*set up wrongly"),
    "a web identity token file that is missing": (
        {**WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/missing"},
        NotConfigured,
        "missing' cannot be read",
    ),
    "a folder in its place": (
        {**WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}"},
        NotConfigured,
        "cannot be read",
    ),
    "an STS that cannot be reached": (
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": CLOSED},
        Unreachable,
        "gives no credentials.*the service that gives them could not be reached",
    ),
    "an STS that refuses the role": (
        {**WEB_IDENTITY, **sts(403, "AccessDenied")},
        NotConfigured,
        r"AssumeRoleWithWebIdentity was refused \(AccessDenied\): .*trust policy",
    ),
    "a web identity that has ended": (
        {**WEB_IDENTITY, **sts(400, "ExpiredTokenException")},
        NotConfigured,
        "the caller's credentials work",
    ),
    "an STS that throttles": ({**WEB_IDENTITY, **sts(400, "Throttling")}, Unreachable, "later calls try again"),
    "a login page in place of STS": (
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": answered(200, PORTAL)},
        VirtuousTokenError,
        "credentials",
    ),
    "a profile's role that is refused": (
        {**profile(SOURCE), **sts(403, "AccessDenied")},
        NotConfigured,
        "AssumeRole was refused .*trust policy.*sts:AssumeRole",
    ),
    "a profile's role with MFA": (
        profile(f"mfa_serial=arn:aws:iam::123456789012:mfa/me\n{SOURCE}"),
        NotConfigured,
        "MFA code, a reader asks nobody",
    ),
    "no source profile": (
        profile(f"role_arn={ROLE}\nsource_profile=x"),
        NotConfigured,
        "InvalidConfigError.*set up wrongly",
    ),
    "a profile that is missing": ({"AWS_PROFILE": "x"}, NotConfigured, "no such profile"),
    "a process that fails": (profile("credential_process=/bin/false"), NotConfigured, "by hand"),
    "a process that prints text": (profile("credential_process=/bin/echo s3cret"), NotConfigured, "by hand"),
    "a process that prints a list": (profile("credential_process=/bin/echo []"), NotConfigured, "set up wrongly"),
    "a process that is missing": (profile("credential_process=/missing/x"), NotConfigured, "cannot be read"),
    "an SSO session that has ended": (profile(SSO_PORTAL + SSO_ROLE), NotConfigured, "aws sso login"),
    "an SSO session of the newer kind": (
        profile(f"sso_session=s\n{SSO_ROLE}[sso-session s]\n{SSO_PORTAL}"),
        NotConfigured,
        "aws sso login",
    ),
    "half of an SSO profile": (
        profile("sso_start_url=https://x\nsso_account_id=1"),
        NotConfigured,
        "InvalidConfigError.*set up wrongly",
    ),
    "a container's credentials that cannot be reached": (
        {CONTAINER: f"{CLOSED}/c"},
        Unreachable,
        "service that gives them could not be reached",
    ),
    "a login page in their place": ({CONTAINER: answered(200, PORTAL)}, NotConfigured, CONTAINER),
    "a list in their place": ({CONTAINER: answered(200, "[]")}, NotConfigured, "its answer holds none"),
    "a container's token file that is missing": (
        {CONTAINER: f"{CLOSED}/c", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/missing/t"},
        NotConfigured,
        "/missing/t",
    ),
    # Settings
    "a spoiled config file": ({**KEYS, "config": "no config"}, NotConfigured, "ConfigParseError.*the profile"),
    "a Region with blanks": ({**KEYS, "AWS_REGION": "eu west 1"}, NotConfigured, "'eu west 1'"),
    "a misspelt Region": (
        {**KEYS, "AWS_REGION": "eu-wset-1"},
        NotConfigured,
        r"'eu-wset-1' \(from AWS_REGION\).*no such Region; correct it in AWS_REGION",
    ),
    "no Region": ({**KEYS, "AWS_REGION": ""}, NotConfigured, "no Region is named"),
    "no endpoint": (endpoint("s3cret://"), NotConfigured, "settings .* not valid"),
    "a port that cannot be": (endpoint("http://localhost:99999"), VirtuousTokenError, NAME),
    "a setting that cannot be": ({**KEYS, "AWS_DEFAULTS_MODE": "x"}, NotConfigured, "settings .* not valid"),
    "keys with a line break": (
        {**endpoint(CLOSED), "AWS_ACCESS_KEY_ID": "a\nb"},
        NotConfigured,
        "settings .* not valid",
    ),
    # The network
    "nobody at the endpoint": (endpoint(CLOSED), Unreachable, "could not be reached; later"),
    "a proxy that cannot be reached": (
        {**endpoint("https://aws.example"), "HTTPS_PROXY": CLOSED},
        Unreachable,
        "HTTPS_PROXY",
    ),
    "a certificate of nobody's": (endpoint("{tls}"), NotConfigured, "AWS_CA_BUNDLE"),
    "a bundle of certificates that is missing": (
        {**endpoint("{tls}"), "AWS_CA_BUNDLE": "/missing/ca.pem"},
        NotConfigured,
        "AWS_CA_BUNDLE names '/missing/ca.pem', which holds no certificates",
    ),
    **{
        f"a bundle without certificates in {source}": (
            {**endpoint(CLOSED), **settings},
            NotConfigured,
            f"{source} names '.*/config', which holds no certificates",
        )
        for source, settings in {
            "AWS_CA_BUNDLE": {"AWS_CA_BUNDLE": "{folder}/config", "config": ""},
            "REQUESTS_CA_BUNDLE": {"REQUESTS_CA_BUNDLE": "{folder}/config", "config": ""},
            "the profile's ca_bundle": profile("ca_bundle={folder}/config"),
        }.items()
    },
    # Answers
    **{
        what: (endpoint(answered(status, body)), Unreachable, "not one of AWS's")
        for what, status, body in (
            ("a login page in place of Secrets Manager", 200, PORTAL),
            ("one with 403", 403, PORTAL),
            ("one with 302", 302, PORTAL),
            ("a list where an object should be", 200, '["s3cret"]'),
            ("a list where text should be", 200, '{"SecretString": ["s3cret"]}'),
            ("a list as a refusal", 400, '["s3cret"]'),
        )
    },
    "bytes where text should be": (
        endpoint(answered(200, '{"SecretBinary": "czNjcmV0"}')),
        UnreadableSecret,
        "bytes",
    ),
}

World = Callable[[Mapping[str, str]], None]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """Sets environment and files, and serves the answers that the environment names."""
    (tmp_path / "identity").write_text("web identity")
    (tmp_path / "config").touch()
    with ExitStack() as servers:

        def serve(status: int, body: str) -> str:
            class Handler(BaseHTTPRequestHandler):
                def answer(self) -> None:
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body.encode())

                do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

                def log_message(self, *_: object) -> None:
                    pass

            return servers.enter_context(serving(Handler))

        def place(value: str) -> str:
            if value.startswith("{serve}:"):
                _, status, body = value.split(":", 2)
                return serve(int(status), body)
            if value == "{tls}":
                return servers.enter_context(with_tls(tmp_path))
            return value.replace("{folder}", str(tmp_path))

        def arrange(environment: Mapping[str, str]) -> None:
            settings = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path), "AWS_REGION": "eu-west-1"}
            settings["AWS_MAX_ATTEMPTS"] = "1"  # of clients other than the reader's
            for name, value in {**settings, **environment}.items():
                if name == "config":
                    (tmp_path / name).write_text(place(value))
                else:
                    monkeypatch.setenv(name, place(value))

        yield arrange


@contextmanager
def with_tls(folder: Path) -> Iterator[str]:
    """A server whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    (folder / "tls.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("environment", "kind", "advice"), TROUBLE.values(), ids=TROUBLE)
def test_trouble_is_one_of_our_errors_that_says_what_mends_it(
    environment: dict[str, str],
    kind: type[VirtuousTokenError],
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
    assert not reader.report_rejected("access-0")
    assert not asyncio.run(reader.async_report_rejected("access-0"))
    assert piped.tell() == 0, "the program's input was read"


REFUSALS: dict[str, tuple[str, type[VirtuousTokenError], str]] = {
    "no permission": ("AccessDeniedException", NotAllowed, "reader policy.*kms:Decrypt.*misspelt name is refused"),
    "a key that is disabled": ("DecryptionFailure", NotAllowed, "kms:Decrypt"),
    "unknown credentials, or a Region that is not enabled": (
        *("UnrecognizedClientException", NotConfigured),
        "renew .*Region is enabled",
    ),
    "credentials that are over": ("ExpiredTokenException", NotConfigured, "renew "),
    "a clock that is wrong": ("InvalidSignatureException", NotConfigured, "this machine's clock"),
    "a name that cannot be": ("ValidationException", NotConfigured, "for a name or an ARN"),
    "throttled": ("ThrottlingException", Unreachable, "later calls try again"),
    "trouble at AWS": ("InternalServiceError", Unreachable, "later calls try again"),
    "a code that nobody knows yet": ("SomethingNew", Unreachable, "SomethingNew"),
    "no answer in time": ("ReadTimeoutError", Unreachable, "could not be reached"),
    "no connection": ("EndpointConnectionError", Unreachable, "could not be reached"),
}


@pytest.fixture
def strict() -> StrictSecretsManager:
    return StrictSecretsManager()


@pytest.mark.parametrize(("code", "kind", "advice"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_to_do(
    code: str, kind: type[VirtuousTokenError], advice: str, strict: StrictSecretsManager
) -> None:
    client: Any = strict.client()
    client.create_secret(Name=NAME, SecretString='{"access_token": "access-1"}')
    reader = TokenReader(NAME, client=client)
    assert reader.token() == "access-1"
    reader.forget()
    strict.fail("GetSecretValue", code)
    with pytest.raises(kind, match=advice) as raised:
        reader.token()
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("made", "is_described", "kind", "advice"),
    [
        pytest.param(None, True, NoSuchSecret, "there is no secret 'virtuous/default/bearer'.*AWS_REGION", id="none"),
        pytest.param(
            None, False, NotLoggedIn, "or does not exist.*virtuous-token login", id="one that cannot be described"
        ),
        pytest.param("empty", True, NotLoggedIn, "virtuous-token login", id="one without a value"),
        pytest.param("deleted", True, NoSuchSecret, "marked for deletion.*restore-secret", id="a deleted one"),
        pytest.param(
            *("deleted", False, NoSuchSecret, "marked for deletion.*restore-secret.*or it belongs to another account"),
            id="a deleted one that cannot be described",
        ),
        pytest.param("foreign", True, NotAllowed, "another account.*key of its own", id="another account's"),
        pytest.param("sealed", True, NotAllowed, "reader policy.*kms:Decrypt", id="one whose key refuses"),
    ],
)
def test_the_state_of_the_secret_is_told(
    made: str | None, is_described: bool, kind: type[VirtuousTokenError], advice: str, strict: StrictSecretsManager
) -> None:
    client: Any = strict.client()
    if made is not None:
        client.create_secret(Name=NAME, **({} if made == "empty" else {"SecretString": "{}"}))
    if made == "deleted":
        client.delete_secret(SecretId=NAME)
    if made == "sealed":
        strict.refuse_kms(NAME, "kms:Decrypt")
    if made == "foreign":
        strict.fail("GetSecretValue", "InvalidRequestException")
    if not is_described:
        strict.fail("DescribeSecret", "AccessDeniedException")
    with pytest.raises(kind, match=advice):
        TokenReader(NAME, client=client).token()


def test_an_operators_move_of_the_label_is_followed(strict: StrictSecretsManager) -> None:
    client: Any = strict.client()
    first = client.create_secret(Name=NAME, SecretString=json.dumps({"access_token": "access-1"}))["VersionId"]
    second = client.put_secret_value(SecretId=NAME, SecretString=json.dumps({"access_token": "access-2"}))["VersionId"]
    reader = TokenReader(NAME, client=client)
    assert reader.token() == "access-2"
    client.update_secret_version_stage(
        SecretId=NAME, VersionStage="AWSCURRENT", MoveToVersionId=first, RemoveFromVersionId=second
    )
    assert (reader.report_rejected("access-2"), reader.token()) == (True, "access-1")


ARN = f"arn:aws:secretsmanager:eu-west-3:123456789012:secret:{NAME}-AbCdEf"


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
    world(
        {**endpoint(CLOSED), "AWS_DEFAULT_REGION": "eu-west-2", "config": "[default]\nregion=eu-north-1", **environment}
    )
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
        pytest.param('{"access_token": "Ab3xAb3xAb3x"}', id="a secret's value"),
    ],
)
def test_a_token_in_the_place_of_the_name_is_neither_quoted_nor_sent_to_aws(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OneBearer(EpochClock())
    monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", token)
    for reader in (TokenReader(client=source), TokenReader(token, client=source), TokenReader(token)):
        with pytest.raises(NotConfigured, match="not the token") as raised:
            reader.token()
        assert token not in f"{raised.value} {reader!r}"
    assert source.reads == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(NAME, NAME, id="a name of ours"),
        pytest.param("prod/crm-2/bearer", "prod/crm-2/bearer", id="another"),
        pytest.param(long := f"{ARN}{'-the-crm-of' * 9}", long, id="a long ARN"),
        pytest.param("the-crm-of-" * 9 + "a-bearer", "the-crm-of-" * 9 + "a-bearer", id="a long name without a slash"),
        pytest.param("access-1-ff94beb5de64b502", "access-1-***", id="something random in it"),
    ],
)
def test_a_name_is_shown(name: str, text: str) -> None:
    assert can_be_name(name)
    assert shown(name) == repr(text)
