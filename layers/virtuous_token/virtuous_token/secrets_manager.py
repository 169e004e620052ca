"""Secrets Manager as a reader needs it: one client with short time-outs, and one read."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from . import _shared_read
from .aws_errors import NOT_AWS, SETTINGS, Asked, chain_of, credentials_error, read_error
from .contract import Bearer, format_instant
from .errors import NotConfigured, NoToken, TokenExpired, Unreachable, UnreadableSecret, can_be_name, shown

# A read takes a few milliseconds in AWS. Within the reader's bound both that give an answer, the service of the
# credentials and Secrets Manager, are asked as often as this.
ATTEMPTS = 3
LONGEST_CONNECT_SECONDS = 2.0
LONGEST_READ_SECONDS = 5.0

_settings_error = partial(read_error, otherwise=SETTINGS)


class BearerSecret:
    """A bearer secret with the client that reads it, and what errors must tell: the Region, and who named that."""

    __slots__ = ("_asked", "_credentials")

    def __init__(self, asked: Asked, credentials: Any = None) -> None:
        self._asked = asked
        self._credentials = credentials

    @classmethod
    def of(cls, secret_id: str, client: Any) -> BearerSecret:
        """With a *client* that somebody else made. Raises NotConfigured where *secret_id* can be no name."""
        _require_name(secret_id)
        region = getattr(getattr(client, "meta", None), "region_name", None)
        return cls(Asked(secret_id, region, "the client that was given", client))

    @classmethod
    def open(cls, secret_id: str, timeout_seconds: float) -> BearerSecret:
        """With a client of its own for the Region that :func:`region_of` tells. Raises NoToken.

        botocore's own session, because importing boto3 on top of it adds a tenth of a second to a cold start. The
        environment's AWS settings (credentials, profile, ``AWS_ENDPOINT_URL``) count as they do for boto3.
        """
        _require_name(secret_id)
        asked = Asked(secret_id)
        step: Callable[[Exception, Asked], NoToken] = _settings_error
        try:
            with _shared_read.imports:
                session = _session(timeout_seconds)
                region, source = region_of(secret_id, session)
                asked = Asked(secret_id, region, source)
                _require_readable_certificates(session)
                if source == "AWS_REGION" or not session.get_config_variable("region"):
                    session.set_config_variable("region", region)  # for STS, where that gives the credentials
            step = credentials_error
            credentials = session.get_credentials()  # this may ask the network, so no fork waits for it
            if credentials is not None:
                credentials.get_frozen_credentials()
            step = _settings_error
            with _shared_read.imports:
                client = session.create_client("secretsmanager", region_name=region)
        except ImportError as error:
            if error.name == "botocore":
                raise NotConfigured("botocore is not installed: run `pip install botocore`") from None
            what = f"botocore could not be imported ({type(error).__name__})"
            raise Unreachable(f"{what}; later calls try again") from None
        except Exception as error:
            if isinstance(error, NoToken) or is_of_a_signal_handler(error):
                raise
            raise step(error, asked) from None
        return cls(asked._replace(client=client), credentials)

    def read(self) -> Bearer:
        """What the version under AWSCURRENT holds. Raises NoToken or UnreadableSecret, never anything of others."""
        asked = self._asked
        _keep_answers_out_of_the_log()
        step: Callable[[Exception, Asked], NoToken] = credentials_error
        try:
            if self._credentials is not None:
                self._credentials.get_frozen_credentials()  # here it is told from what follows if they can't be renewed
            step = read_error
            answer = asked.client.get_secret_value(SecretId=asked.name, VersionStage="AWSCURRENT")
            text, is_binary = answer.get("SecretString"), answer.get("SecretBinary") is not None
        except Exception as error:
            if is_of_a_signal_handler(error):
                raise
            raise step(error, asked) from None
        if is_binary:
            raise UnreadableSecret(f"secret {asked} holds bytes (SecretBinary), not text (SecretString)")
        if not isinstance(text, str):
            raise Unreachable(f"reading secret {asked}: {NOT_AWS}")
        try:
            return Bearer.parse(text)
        except UnreadableSecret as unreadable:
            raise UnreadableSecret(f"secret {shown(asked.name)}: {unreadable}") from None

    def expired(self, bearer: Bearer) -> TokenExpired:
        """The error for a bearer whose time has passed."""
        ends, due = (format_instant(at) if at else "unknown" for at in (bearer.expires_at, bearer.next_refresh_at))
        what = (
            f"the token in secret {shown(self._asked.name)} has expired (its end: {ends}; its refresh was due at {due})"
        )
        return TokenExpired(f"{what}: look at the refresher's alarms, and run `virtuous-token status`")

    def close(self) -> None:
        self._asked.client.close()


def is_of_a_signal_handler(error: Exception) -> bool:
    """True if a signal handler of the program raised *error*, or what it came from: then it is no trouble of AWS's."""
    import signal
    from traceback import walk_tb

    handlers = [getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()]
    frames = [frame for one in chain_of(error) for frame, _ in walk_tb(one.__traceback__)]
    return any(frame.f_code in handlers for frame in frames)


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


def _session(timeout_seconds: float) -> Any:
    """A session whose clients, STS's included, give up in time, and which asks nobody anything."""
    import encodings.idna  # noqa: F401 - else the first resolution of a name imports it, when forks no longer wait

    from botocore.config import Config
    from botocore.credentials import CredentialProvider
    from botocore.exceptions import RefreshWithMFAUnsupportedError
    from botocore.session import Session

    session: Any = Session()
    seconds = timeout_seconds / (2 * ATTEMPTS)
    session.set_default_client_config(
        Config(
            connect_timeout=min(LONGEST_CONNECT_SECONDS, seconds),
            read_timeout=min(LONGEST_READ_SECONDS, seconds),
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
    )

    class AsksNobody(CredentialProvider):  # type: ignore[misc, unused-ignore]
        """Where the profile's role asks for an MFA code botocore would ask the terminal, or eat the program's input."""

        METHOD = CANONICAL_NAME = "asks-nobody"

        def load(self) -> None:
            profiles, name, seen = session.full_config.get("profiles", {}), session.profile or "default", set()
            while name in profiles and name not in seen:
                seen.add(name)
                if {"role_arn", "mfa_serial"} <= profiles[name].keys():
                    raise RefreshWithMFAUnsupportedError
                name = profiles[name].get("source_profile")

    session.get_component("credential_provider").insert_before("assume-role", AsksNobody())
    return session


def _require_readable_certificates(session: Any) -> None:
    """botocore tells a bundle of certificates that can't be used from a network that is down by a text alone."""
    bundles = {
        "AWS_CA_BUNDLE": os.environ.get("AWS_CA_BUNDLE"),
        "the profile's ca_bundle": session.get_scoped_config().get("ca_bundle"),
        "REQUESTS_CA_BUNDLE": os.environ.get("REQUESTS_CA_BUNDLE"),
    }
    for source, bundle in [found for found in bundles.items() if found[1] is not None][:1]:
        place = "capath" if Path(bundle).is_dir() else "cafile"
        try:
            ssl.create_default_context(**{place: bundle})
        except OSError:  # which ssl's own error is as well
            what = f"{source} names {bundle!r}, which holds no certificates"
            raise NotConfigured(f"{what}: name a file that does, or unset it") from None


def _require_name(secret_id: str) -> None:
    if not can_be_name(secret_id):
        what = f"the secret's name {shown(secret_id)} is neither a name nor an ARN"
        raise NotConfigured(f"{what}: put the bearer secret's name there, not the token")


def _keep_answers_out_of_the_log() -> None:
    """At DEBUG botocore logs every answer's body, so the token would stand in the log of whoever debugs."""
    parsers = logging.getLogger("botocore.parsers")
    if parsers.level < logging.INFO:
        parsers.setLevel(logging.INFO)
