"""Which AWS account and Region the command works in, and what AWS's refusals mean for the person who runs it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import botocore.session
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import JSONFileCache

from .remedies import CommandFailed, Run, aws_cli

# What an operator is told, instead of a traceback.
FAILURES = (CommandFailed, ClientError, BotoCoreError)
# The AWS CLI keeps the credentials of assumed roles here: one MFA code serves both for as long as they last.
ROLE_CREDENTIALS = Path("~/.aws/cli/cache")
_CONFIG = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}, max_pool_connections=20
)
# The function may run for five minutes, and a second invocation would only be busy: wait, and do not repeat.
_LAMBDA = Config(read_timeout=320, tcp_keepalive=True, retries={"total_max_attempts": 1})

_UNKNOWN = ("AuthFailure", "InvalidClientTokenId", "InvalidSignatureException", "UnrecognizedClientException")
_WHO_AM_I = aws_cli("sts", "get-caller-identity")
_SSO_LOGIN = aws_cli("sso", "login")
_NO_SESSION = (
    botocore_errors.SSOError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.LoginError,
    botocore_errors.RefreshWithMFAUnsupportedError,
)


@dataclass(frozen=True)
class Aws:
    """One Region of the account that a profile's credentials belong to. ``region_from`` says who named the Region."""

    session: botocore.session.Session
    profile: str | None
    region: str
    region_from: str
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)
    _making: Lock = field(default_factory=Lock, repr=False)

    def client(self, service: str) -> Any:
        """A client with bounded time-outs, always the same one. It logs no request, since those hold secrets' values.

        Several threads may call it, and use what it returns.
        """
        with self._making:
            if service not in self._clients:
                for name in ("botocore", "urllib3"):
                    logger = logging.getLogger(name)
                    logger.setLevel(max(logger.level, logging.INFO))
                make: Any = self.session.create_client  # the stubs know each service by a name of its own
                config = _CONFIG.merge(_LAMBDA) if service == "lambda" else _CONFIG
                self._clients[service] = make(service, region_name=self.region, config=config)
            return self._clients[service]

    def resolve_credentials(self) -> None:
        """Asks for an MFA code if the profile's role needs one. Call it early: a prompt needs the terminal for itself.

        Raises CommandFailed where there is no terminal to ask at, and what botocore raises.
        """
        try:
            if credentials := self.session.get_credentials():
                credentials.get_frozen_credentials()
        except EOFError:
            raise CommandFailed("The AWS profile asks for an MFA code, and there is no terminal to ask at.") from None

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Account and ARN of whoever the credentials belong to. Everybody may ask for it."""
        identity: Mapping[str, Any] = self.client("sts").get_caller_identity()
        return identity

    def described(self) -> str:
        """Where the command asked, for the text of an error."""
        account = "unknown"
        with contextlib.suppress(ClientError, BotoCoreError, EOFError, OSError):
            account = self.identity["Account"]
        profile = f", profile {self.profile}" if self.profile else ""
        return f"account {account}, Region {self.region} ({self.region_from}){profile}"

    @property
    def log_in_again(self) -> Run:
        """What gives the profile new credentials."""
        with contextlib.suppress(BotoCoreError):
            if "login_session" in self.session.get_scoped_config():
                return aws_cli("login")
        return _SSO_LOGIN


def open_aws(profile: str | None, region: str | None, environment: Mapping[str, str] = os.environ) -> Aws:
    """The Region is *region*, else AWS_REGION, else AWS_DEFAULT_REGION, else the profile's, as the AWS CLI has it.

    Raises CommandFailed where the profile does not exist or nothing names a Region.
    """
    named = profile or environment.get("AWS_PROFILE") or None
    try:
        # A profile that was named on the command line goes before credentials in the environment, AWS_PROFILE does not.
        core = botocore.session.Session(profile=profile)
        of_the_profile = core.get_scoped_config().get("region")
    except botocore_errors.ProfileNotFound:
        raise CommandFailed(f"There is no AWS profile {named}.", Run(("aws", "configure", "list-profiles"))) from None
    variables = ("AWS_REGION", "AWS_DEFAULT_REGION")
    by = {"--region": region} | {name: environment.get(name) for name in variables} | {"the profile": of_the_profile}
    source, found = next(((f"from {name}", value) for name, value in by.items() if value), ("", ""))
    if not found:
        raise CommandFailed(
            "No AWS Region is named: there is no --region, AWS_REGION or AWS_DEFAULT_REGION, and the profile has none.",
            "the same again with --region us-east-1, or whichever Region the stack is in",
        )
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-[0-9]+", found):
        raise CommandFailed(f"{found!r} ({source}) is not the name of an AWS Region.", "name one: --region us-east-1")
    return Aws(make_session(core, found), named, found, source)


def make_session(core: botocore.session.Session, region: str) -> botocore.session.Session:
    """*core*, which shares the credentials of assumed roles with the AWS CLI from here on, and asks in *region*."""
    core.set_config_variable("region", region)
    provider = core.get_component("credential_provider").get_provider("assume-role")
    provider.cache = JSONFileCache(str(ROLE_CREDENTIALS.expanduser()))
    return core


def code_of(error: ClientError) -> str:
    """AWS's word for what went wrong."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def explained(error: Exception, aws: Aws | None = None) -> CommandFailed:
    """What one of FAILURES means and what to run, judged by types and codes alone. No value of a secret is in it."""
    log_in_again = aws.log_in_again if aws else _SSO_LOGIN
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, ClientError):
        return _refused(error, log_in_again)
    name = type(error).__name__
    if isinstance(error, botocore_errors.NoCredentialsError | botocore_errors.PartialCredentialsError):
        return CommandFailed("No AWS credentials were found.", log_in_again, "for the first time: aws configure sso")
    if isinstance(error, _NO_SESSION):
        return CommandFailed(f"The session of the AWS profile is missing or has ended ({name}).", log_in_again)
    if isinstance(error, botocore_errors.SSLError):
        return CommandFailed(
            "The TLS connection to AWS failed: the certificate that came is signed by nobody whom this machine trusts, "
            "as behind a proxy that opens TLS.",
            "name a file that holds your organisation's roots: export AWS_CA_BUNDLE=/path/to/ca-bundle.pem",
        )
    if isinstance(error, botocore_errors.HTTPClientError | botocore_errors.ConnectionError):
        what = f"AWS did not answer ({name})."
        return CommandFailed(what, "check the network and proxy, and whether the Region is right")
    return CommandFailed(f"AWS can't be used ({name}).", _WHO_AM_I)


def _refused(error: ClientError, log_in_again: Run) -> CommandFailed:
    code, operation = code_of(error), error.operation_name
    if "Expired" in code or code == "TokenRefreshRequired":
        return CommandFailed(f"The AWS credentials have ended ({code}).", log_in_again)
    if code in (*_UNKNOWN, "SignatureDoesNotMatch"):
        return CommandFailed(f"AWS does not know these credentials ({code}).", _WHO_AM_I)
    is_denied = code.startswith(("AccessDenied", "AuthorizationError", "Unauthorized"))
    if is_denied and operation == "AssumeRole":
        what = "AWS does not let this profile take its role; if the role asks for an MFA code, it was wrong or missing."
        return CommandFailed(what, _WHO_AM_I)
    if is_denied:
        return CommandFailed(
            f"AWS denies {operation} to these credentials ({code}).",
            "attach the stack's policy to your user or role: output OperatorPolicyArn to look, check and refresh, "
            "output LoginPolicyArn to log in and remove",
        )
    return CommandFailed(f"AWS refuses {operation} ({code}).")
