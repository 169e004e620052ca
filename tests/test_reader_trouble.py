"""What AWS's side of a read can end in: one of our errors, which says what failed, what mends it, and no secret.

Credentials of every kind that botocore knows, Regions, endpoints, certificates and answers are tried with a real
botocore client; only what it talks to is played.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.loopback import serving
from tests.fakes.one_bearer import EpochClock, OneBearer
from tests.fakes.secrets_manager import StrictSecretsManager
from virtuous_token import (
    NoSuchSecret,
    NotAllowed,
    NotConfigured,
    NoToken,
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
SOURCE = "[profile s]\naws_access_key_id=a\naws_secret_access_key=s3cret-of-aws\n"
CLOSED = "http://127.0.0.1:9"
STS_ERROR = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>s3cret</Message></Error></ErrorResponse>"
)
PORTAL = "<html>Sign in to the network: s3cret</html>"


def profile(settings: str, others: str = "") -> dict[str, str]:
    return {"config": f"[profile p]\n{settings}\n{others}"}


def answered(status: int, body: str) -> str:
    """Names an answer for the stand-in: it is put into its address."""
    return f"{{serve}}:{status}:{body}"


P = {"AWS_PROFILE": "p"}
TROUBLE = [
    pytest.param({}, {}, NotConfigured, "no AWS credentials", id="no credentials"),
    pytest.param({"AWS_ACCESS_KEY_ID": "a"}, {}, NotConfigured, "only a part", id="half of the keys"),
    pytest.param(
        {**WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/missing"},
        {},
        NotConfigured,
        "missing' cannot be read",
        id="a web identity token file that is missing",
    ),
    pytest.param(
        {**WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}"},
        {},
        NotConfigured,
        "cannot be read",
        id="a folder in its place",
    ),
    pytest.param(
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": CLOSED},
        {},
        Unreachable,
        "gives no credentials.*the service that gives them could not be reached",
        id="an STS that cannot be reached",
    ),
    pytest.param(
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": answered(403, STS_ERROR.format(code="AccessDenied"))},
        {},
        NotConfigured,
        r"AssumeRoleWithWebIdentity was refused \(AccessDenied\): .*trust policy",
        id="an STS that refuses the role",
    ),
    pytest.param(
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": answered(400, STS_ERROR.format(code="ExpiredTokenException"))},
        {},
        NotConfigured,
        "the caller's credentials work",
        id="a web identity that has ended",
    ),
    pytest.param(
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": answered(400, STS_ERROR.format(code="Throttling"))},
        {},
        Unreachable,
        "later calls try again",
        id="an STS that throttles",
    ),
    pytest.param(
        {**WEB_IDENTITY, "AWS_ENDPOINT_URL_STS": answered(200, PORTAL)},
        {},
        VirtuousTokenError,
        "credentials",
        id="a login page in place of STS",
    ),
    pytest.param(
        {**P, "AWS_ENDPOINT_URL_STS": answered(403, STS_ERROR.format(code="AccessDenied"))},
        profile(f"role_arn={ROLE}\nsource_profile=s", SOURCE),
        NotConfigured,
        "AssumeRole was refused .*trust policy.*sts:AssumeRole",
        id="a profile's role that is refused",
    ),
    pytest.param(
        P,
        profile(f"role_arn={ROLE}\nsource_profile=s\nmfa_serial=arn:aws:iam::123456789012:mfa/me", SOURCE),
        NotConfigured,
        "MFA code, and a reader asks nobody",
        id="a profile's role with MFA",
    ),
    pytest.param(P, profile(f"role_arn={ROLE}\nsource_profile=x"), NotConfigured, "incomplete", id="no source profile"),
    pytest.param({"AWS_PROFILE": "x"}, {}, NotConfigured, "no such profile", id="a profile that is missing"),
    pytest.param(P, profile("credential_process=/bin/false"), NotConfigured, "by hand", id="a process that fails"),
    pytest.param(
        P, profile("credential_process=/bin/echo s3cret"), NotConfigured, "by hand", id="a process that prints text"
    ),
    pytest.param(
        P,
        profile("credential_process=/bin/echo []"),
        NotConfigured,
        "set up wrongly",
        id="a process that prints a list",
    ),
    pytest.param(
        P, profile("credential_process=/missing/x"), NotConfigured, "cannot be read", id="a process that is missing"
    ),
    pytest.param(
        P,
        profile("sso_start_url=https://x/start\nsso_region=eu-west-1\nsso_account_id=123456789012\nsso_role_name=r"),
        NotConfigured,
        "aws sso login",
        id="an SSO session that has ended",
    ),
    pytest.param(
        P,
        profile(
            "sso_session=s\nsso_account_id=123456789012\nsso_role_name=r",
            "[sso-session s]\nsso_start_url=https://x/start\nsso_region=eu-west-1\n",
        ),
        NotConfigured,
        "aws sso login",
        id="an SSO session of the newer kind",
    ),
    pytest.param(
        P,
        profile("sso_start_url=https://x\nsso_account_id=1"),
        NotConfigured,
        "incomplete",
        id="half of an SSO profile",
    ),
    pytest.param(
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{CLOSED}/c"},
        {},
        Unreachable,
        "service that gives them could not be reached",
        id="a container's credentials that cannot be reached",
    ),
    pytest.param(
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": answered(200, PORTAL)},
        {},
        NotConfigured,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        id="a login page in their place",
    ),
    pytest.param(
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": answered(200, "[]")},
        {},
        NotConfigured,
        "its answer holds none",
        id="a list in their place",
    ),
    pytest.param(
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{CLOSED}/c", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/missing/t"},
        {},
        NotConfigured,
        "/missing/t",
        id="a container's token file that is missing",
    ),
    pytest.param(
        KEYS, {"config": "no config"}, NotConfigured, "cannot be read: correct it", id="a spoiled config file"
    ),
    pytest.param({**KEYS, "AWS_REGION": "eu west 1"}, {}, NotConfigured, "'eu west 1'", id="a Region with blanks"),
    pytest.param(
        {**KEYS, "AWS_REGION": "eu-wset-1"},
        {},
        NotConfigured,
        r"'eu-wset-1' \(from AWS_REGION\).*no such Region; correct it in AWS_REGION",
        id="a misspelt Region",
    ),
    pytest.param({**KEYS, "AWS_REGION": ""}, {}, NotConfigured, "no Region is named", id="no Region"),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": "s3cret://"}, {}, NotConfigured, "settings .* not valid", id="no endpoint"
    ),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": "http://localhost:99999"}, {}, VirtuousTokenError, NAME, id="a port that cannot be"
    ),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": CLOSED},
        {},
        Unreachable,
        "could not be reached; later",
        id="nobody at the endpoint",
    ),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": "{tls}"}, {}, NotConfigured, "AWS_CA_BUNDLE", id="a certificate of nobody's"
    ),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": "{tls}", "AWS_CA_BUNDLE": "/missing/ca.pem"},
        {},
        NotConfigured,
        "AWS_CA_BUNDLE names '/missing/ca.pem', which holds no certificates",
        id="a bundle of certificates that is missing",
    ),
    *(
        pytest.param(
            {**KEYS, **others, "AWS_ENDPOINT_URL": CLOSED},
            files,
            NotConfigured,
            f"{source} names '.*/config', which holds no certificates",
            id=f"a bundle without certificates in {source}",
        )
        for source, others, files in (
            ("AWS_CA_BUNDLE", {"AWS_CA_BUNDLE": "{folder}/config"}, {"config": ""}),
            ("REQUESTS_CA_BUNDLE", {"REQUESTS_CA_BUNDLE": "{folder}/config"}, {"config": ""}),
            ("the profile's ca_bundle", P, profile("ca_bundle={folder}/config")),
        )
    ),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": "https://aws.example", "HTTPS_PROXY": CLOSED},
        {},
        Unreachable,
        "HTTPS_PROXY",
        id="a proxy that cannot be reached",
    ),
    pytest.param(
        {**KEYS, "AWS_ACCESS_KEY_ID": "a\nb", "AWS_ENDPOINT_URL": CLOSED},
        {},
        NotConfigured,
        "no header may have",
        id="keys with a line break",
    ),
    pytest.param(
        {**KEYS, "AWS_DEFAULTS_MODE": "x"}, {}, NotConfigured, "settings .* not valid", id="a setting that cannot be"
    ),
    *(
        pytest.param({**KEYS, "AWS_ENDPOINT_URL": answered(status, body)}, {}, Unreachable, "not one of AWS's", id=what)
        for status, body, what in (
            (200, PORTAL, "a login page in place of Secrets Manager"),
            (403, PORTAL, "one with 403"),
            (302, PORTAL, "one with 302"),
            (200, '["s3cret"]', "a list where an object should be"),
            (200, '{"SecretString": ["s3cret"]}', "a list where text should be"),
            (400, '["s3cret"]', "a list as a refusal"),
        )
    ),
    pytest.param(
        {**KEYS, "AWS_ENDPOINT_URL": answered(200, '{"SecretBinary": "czNjcmV0"}')},
        {},
        UnreadableSecret,
        "bytes",
        id="bytes where text should be",
    ),
]


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[Mapping[str, str], Mapping[str, str]], None]]:
    """Sets environment and files, and serves the answers that the environment names."""
    (tmp_path / "identity").write_text("web identity")
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

        def arrange(environment: Mapping[str, str], files: Mapping[str, str]) -> None:
            for name, text in files.items():
                (tmp_path / name).write_text(text.replace("{folder}", str(tmp_path)))
            settings = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path), "AWS_REGION": "eu-west-1"}
            settings["AWS_MAX_ATTEMPTS"] = "1"  # of clients other than the reader's
            for name, value in {**settings, **environment}.items():
                monkeypatch.setenv(name, place(value))

        yield arrange


@contextlib.contextmanager
def with_tls(folder: Path) -> Iterator[str]:
    """A server whose certificate nobody vouches for."""
    from http.server import HTTPServer
    from threading import Thread

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

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


@pytest.mark.parametrize(("environment", "files", "kind", "advice"), TROUBLE)
def test_trouble_is_one_of_our_errors_that_says_what_mends_it(
    environment: dict[str, str],
    files: dict[str, str],
    kind: type[VirtuousTokenError],
    advice: str,
    world: Callable[[Mapping[str, str], Mapping[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world(environment, files)
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


class Refusing(OneBearer):
    """A client that refuses, and describes the secret as it is set."""

    def __init__(self, code: str, described: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(EpochClock())
        self.failure = ClientError(
            {"Error": {"Code": code, "Message": "s3cret"}, "ResponseMetadata": {"HTTPHeaders": headers or {}}},  # type: ignore[typeddict-item]
            "GetSecretValue",
        )
        self.description = described

    def describe_secret(self, *, SecretId: str) -> Mapping[str, Any]:  # noqa: N803
        if isinstance(self.description, Exception):
            raise self.description
        return self.description or {}


@pytest.mark.parametrize(
    ("client", "kind", "advice"),
    [
        pytest.param(Refusing("AccessDeniedException"), NotAllowed, "a misspelt one is refused as well", id="denied"),
        pytest.param(
            Refusing("InvalidRequestException", {"Name": NAME}),
            NotAllowed,
            "another account.*key of its own",
            id="another account's secret under the default key",
        ),
        pytest.param(
            Refusing("InvalidRequestException", OSError()),
            NoSuchSecret,
            "marked for deletion.*or it belongs to another account",
            id="the same where it cannot be described",
        ),
        pytest.param(
            Refusing("InvalidSignatureException", headers={"date": "Wed, 25 Nov 2020 10:00:00 GMT"}),
            NotConfigured,
            "this machine's clock",
            id="a clock that is wrong",
        ),
        pytest.param(Refusing("InvalidSignatureException"), NotConfigured, "renew them", id="a wrong key"),
        pytest.param(
            Refusing("UnrecognizedClientException"),
            NotConfigured,
            "Region is enabled",
            id="a Region that is not enabled",
        ),
    ],
)
def test_a_refusal_of_secrets_manager_says_what_mends_it(client: Refusing, kind: type[NoToken], advice: str) -> None:
    with pytest.raises(kind, match=advice) as raised:
        TokenReader(NAME, client=client, clock=client.clock).token()
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "config", "secret_id", "region"),
    [
        pytest.param(
            {"AWS_REGION": "eu-west-1"},
            "",
            f"arn:aws:secretsmanager:eu-west-3:123456789012:secret:{NAME}-AbCdEf",
            "'eu-west-3' (from the ARN)",
            id="the ARN's before all others",
        ),
        pytest.param(
            {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"},
            "[default]\nregion=eu-north-1",
            NAME,
            "'eu-west-1' (from AWS_REGION)",
            id="then AWS_REGION",
        ),
        pytest.param(
            {"AWS_REGION": " ", "AWS_DEFAULT_REGION": "eu-west-2"},
            "[default]\nregion=eu-north-1",
            NAME,
            "'eu-west-2' (from AWS_DEFAULT_REGION)",
            id="then AWS_DEFAULT_REGION",
        ),
        pytest.param(
            {"AWS_REGION": ""},
            "[default]\nregion=eu-north-1",
            NAME,
            "'eu-north-1' (from the profile)",
            id="then the profile",
        ),
    ],
)
def test_the_region_that_is_asked_is_named(
    environment: dict[str, str],
    config: str,
    secret_id: str,
    region: str,
    world: Callable[[Mapping[str, str], Mapping[str, str]], None],
) -> None:
    world({**KEYS, "AWS_ENDPOINT_URL": CLOSED, **environment}, {"config": config})
    with pytest.raises(Unreachable) as raised:
        TokenReader(secret_id).token()
    assert f"in Region {region}" in str(raised.value)


LONG_ARN = f"arn:aws:secretsmanager:eu-west-3:123456789012:secret:{'the-crm-of-' * 9}bearer-AbCdEf"
TOKENS = [
    pytest.param("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", id="a JSON Web Token"),
    pytest.param("v_eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", id="an API key"),
    pytest.param("Ab3_-" * 116 + "xy", id="a token of 582 characters"),
    pytest.param("Bearer Ab3xAb3xAb3x", id="a header"),
    pytest.param('{"access_token": "Ab3xAb3xAb3x"}', id="a secret's value"),
]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_in_the_place_of_the_name_is_neither_quoted_nor_sent_to_aws(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OneBearer(EpochClock())
    monkeypatch.setenv("VIRTUOUS_BEARER_SECRET", token)
    for reader in (TokenReader(client=source), TokenReader(token, client=source)):
        with pytest.raises(NotConfigured, match="not the token") as raised:
            reader.token()
        assert token not in f"{raised.value} {reader!r}"
    with pytest.raises(NotConfigured):
        TokenReader(token).token()
    assert source.reads == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(NAME, f"'{NAME}'", id="a name of ours"),
        pytest.param("prod/crm-2/bearer", "'prod/crm-2/bearer'", id="another"),
        pytest.param(LONG_ARN, repr(LONG_ARN), id="a long ARN without a slash"),
        pytest.param(
            "the-crm-of-" * 9 + "a-bearer", repr("the-crm-of-" * 9 + "a-bearer"), id="a long name without one"
        ),
        pytest.param("access-1-ff94beb5de64b502", "'access-1-***'", id="something random in it"),
    ],
)
def test_a_name_is_shown(name: str, text: str) -> None:
    assert can_be_name(name)
    assert shown(name) == text


def test_the_value_of_a_secret_that_was_put_as_bytes_is_not_shown() -> None:
    client: Any = StrictSecretsManager().client()
    client.create_secret(Name=NAME, SecretString=json.dumps(["s3cret"]))
    with pytest.raises(UnreadableSecret) as raised:
        TokenReader(NAME, client=client).token()
    assert "s3cret" not in str(raised.value)
