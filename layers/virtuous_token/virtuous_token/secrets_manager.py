"""Secrets Manager as a reader needs it: one client with short timeouts, and one read."""

from __future__ import annotations

import os
from typing import Any

from . import forks
from .errors import NotConfigured, NoToken, Unreachable, UnreadableSecret
from .secret_name import can_be_name

__all__ = ["Connection", "connect", "region_of"]

# A read takes a few milliseconds in AWS. These let it try again within the reader's bound of half a minute.
CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
ATTEMPTS = 3


class Connection:
    """A client, with the Region that it asks and where that comes from, so that errors can tell."""

    __slots__ = ("client", "region", "source")

    def __init__(self, client: Any, region: str | None = None, source: str = "the client that was given") -> None:
        self.client = client
        self.region = region or getattr(getattr(client, "meta", None), "region_name", None)
        self.source = source

    def read(self, secret_id: str) -> str:
        """The text of the version under AWSCURRENT. Raises NoToken or UnreadableSecret, never anything of others."""
        if not can_be_name(secret_id):
            raise _no_name(secret_id)
        _hold_the_parsers_log()
        try:
            answer = self.client.get_secret_value(SecretId=secret_id, VersionStage="AWSCURRENT")
            text, is_binary = answer.get("SecretString"), answer.get("SecretBinary") is not None
        except Exception as error:  # noqa: BLE001 - every exception of others becomes one of ours
            from .aws_errors import explained

            problem: NoToken | UnreadableSecret = explained(error, secret_id, self)
        else:
            if isinstance(text, str):
                return text
            from .aws_errors import without_text

            problem = without_text(secret_id, self, is_binary=is_binary)
        raise problem  # from here, so that it does not carry botocore's error, which holds the signed request

    def close(self) -> None:
        """Closes the client where it can be closed."""
        if hasattr(self.client, "close"):
            self.client.close()


def connect(secret_id: str) -> Connection:
    """A connection to the Region that :func:`region_of` tells. Raises NoToken.

    botocore's own session, because importing boto3 on top of it adds a tenth of a second to a cold start. The
    environment's AWS settings (credentials, profile, ``AWS_ENDPOINT_URL``) count as they do for boto3.
    """
    if not can_be_name(secret_id):
        raise _no_name(secret_id)
    connection = Connection(None, source="the environment")
    try:
        with forks.imports_of_a_read:
            # Else the first resolution of a name imports it, when forks no longer wait.
            import encodings.idna  # noqa: F401

            from botocore.exceptions import NoCredentialsError, NoRegionError
            from botocore.session import Session

            session: Any = Session()
        connection.region, connection.source = region_of(secret_id, session)
        if connection.region is None:
            raise NoRegionError  # noqa: TRY301 - explained below, as those of botocore itself
        if connection.source == "AWS_REGION" or not session.get_config_variable("region"):
            session.set_config_variable("region", connection.region)  # for STS, where that gives the credentials
        _ask_nobody(session)
        if session.get_credentials() is None:  # this may ask the network, so no fork waits for it
            raise NoCredentialsError  # noqa: TRY301
        with forks.imports_of_a_read:
            connection.client = _client(session, connection.region)
    except Exception as error:  # noqa: BLE001 - every exception of others becomes one of ours
        if isinstance(error, ImportError) and error.name == "botocore":
            problem: NoToken = NotConfigured("botocore is not installed: run `pip install botocore`")
        elif isinstance(error, ImportError):
            problem = Unreachable(f"botocore could not be imported ({type(error).__name__}); later calls try again")
        else:
            from .aws_errors import explained

            problem = explained(error, secret_id, connection)
    else:
        return connection
    raise problem  # as above


def region_of(secret_id: str, session: Any) -> tuple[str | None, str]:
    """The Region to ask, None where nobody names one, and where its name comes from.

    That of the ARN, else ``AWS_REGION`` (which Lambda, ECS and the other SDKs go by), else ``AWS_DEFAULT_REGION``, else
    the profile's. *session* is one of botocore.
    """
    parts = secret_id.split(":")
    if parts[0] == "arn" and len(parts) > 6:
        return parts[3], "the ARN"
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        named = os.environ.get(variable, "").strip()
        if named:
            return named, variable
    return session.get_scoped_config().get("region") or None, "the profile"


def _client(session: Any, region: str | None) -> Any:
    from botocore.config import Config

    settings = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    return session.create_client("secretsmanager", region_name=region, config=settings)


def _ask_nobody(session: Any) -> None:
    """Where the profile's role asks for an MFA code botocore would ask the terminal, or eat the program's input."""
    from .aws_errors import CodeNeeded

    def refuse(_: str) -> str:
        raise CodeNeeded

    for provider in session.get_component("credential_provider").providers:
        if hasattr(provider, "_prompter"):
            provider._prompter = refuse  # noqa: SLF001 - there is no public way; aws-cli sets its cache likewise


def _no_name(secret_id: str) -> NotConfigured:
    from .secret_name import shown

    return NotConfigured(
        f"the secret's name {shown(secret_id)} is neither a name nor an ARN: put the bearer secret's name there, not "
        "the token"
    )


def _hold_the_parsers_log() -> None:
    """At DEBUG botocore logs every answer's body, so the token would stand in the log of whoever debugs."""
    import logging

    parsers = logging.getLogger("botocore.parsers")
    if parsers.level < logging.INFO:
        parsers.setLevel(logging.INFO)
