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

__all__ = ["Aws", "code_of", "explained", "open_aws"]

# The AWS CLI keeps the credentials of assumed roles here: one MFA code serves both for as long as they last.
ROLE_CREDENTIALS = Path("~/.aws/cli/cache")
_CONFIG = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}, max_pool_connections=20
)

_ENDED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_INVALID = {
    "AuthFailure",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
_SSO_ERRORS = (botocore_errors.SSOError, botocore_errors.TokenRetrievalError)
_NO_ANSWER = (botocore_errors.HTTPClientError, botocore_errors.ConnectionError)
_WHO_AM_I = aws_cli("sts", "get-caller-identity")
_SSO_LOGIN = aws_cli("sso", "login")


@dataclass(frozen=True)
class Aws:
    """One Region of the account that a profile's credentials belong to. ``region_from`` says who named the Region."""

    session: botocore.session.Session
    profile: str | None
    region: str
    region_from: str
    _clients: dict[tuple[str, int], Any] = field(default_factory=dict, repr=False)
    _making: Lock = field(default_factory=Lock, repr=False)

    def client(self, service: str, config: Config | None = None) -> Any:
        """A client with bounded time-outs, always the same one. It logs no request, since those hold secrets' values.

        Several threads may call it, and use what it returns.
        """
        with self._making:
            known = service, id(config)
            if known not in self._clients:
                for name in ("botocore", "boto3", "urllib3"):
                    logger = logging.getLogger(name)
                    logger.setLevel(max(logger.level, logging.INFO))
                make: Any = self.session.create_client  # the stubs know each service by a name of its own
                settings = _CONFIG.merge(config) if config else _CONFIG
                self._clients[known] = make(service, region_name=self.region, config=settings)
            return self._clients[known]

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
    def account(self) -> str:
        """The account's number, or that nobody knows it. Everybody may ask for it."""
        with contextlib.suppress(ClientError, BotoCoreError, EOFError, OSError):
            return str(self.client("sts").get_caller_identity()["Account"])
        return "unknown"

    @cached_property
    def caller(self) -> str:
        """The ARN of whoever the credentials belong to, as STS tells it. Everybody may ask for it."""
        return str(self.client("sts").get_caller_identity()["Arn"])

    def described(self) -> str:
        """Where the command asked, for the text of an error."""
        profile = f", profile {self.profile}" if self.profile else ""
        return f"account {self.account}, Region {self.region} ({self.region_from}){profile}"

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
        found, source = _region(region, environment, core)
    except botocore_errors.ProfileNotFound:
        raise CommandFailed(f"There is no AWS profile {named}.", Run(("aws", "configure", "list-profiles"))) from None
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-[0-9]+", found):
        raise CommandFailed(f"{found!r} ({source}) is not the name of an AWS Region.", "name one: --region us-east-1")
    return Aws(make_session(core, found), named, found, source)


def make_session(core: botocore.session.Session, region: str) -> botocore.session.Session:
    """*core*, which shares the credentials of assumed roles with the AWS CLI from here on, and asks in *region*."""
    core.set_config_variable("region", region)
    provider = core.get_component("credential_provider").get_provider("assume-role")
    provider.cache = JSONFileCache(str(ROLE_CREDENTIALS.expanduser()))
    return core


def _region(given: str | None, environment: Mapping[str, str], core: botocore.session.Session) -> tuple[str, str]:
    of_the_profile = core.get_scoped_config().get("region")
    if given:
        return given, "from --region"
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if environment.get(variable):
            return environment[variable], f"from {variable}"
    if of_the_profile:
        return of_the_profile, "from the profile"
    raise CommandFailed(
        "No AWS Region is named: there is no --region, AWS_REGION or AWS_DEFAULT_REGION, and the profile has none.",
        "the same again with --region us-east-1, or whichever Region the stack is in",
    )


def code_of(error: ClientError) -> str:
    """AWS's word for what went wrong."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def explained(error: ClientError | BotoCoreError, log_in_again: Run = _SSO_LOGIN) -> CommandFailed:
    """What *error* means and what to run, judged by types and codes alone. No value of a secret is in the text."""
    if isinstance(error, ClientError):
        return _refused(error, log_in_again)
    name = type(error).__name__
    if isinstance(error, _SSO_ERRORS):
        return CommandFailed("The AWS SSO session is missing or has ended.", _SSO_LOGIN)
    if isinstance(error, botocore_errors.LoginError):
        return CommandFailed("The session of aws login is missing or has ended.", aws_cli("login"))
    if isinstance(error, botocore_errors.NoCredentialsError | botocore_errors.PartialCredentialsError):
        return CommandFailed("No AWS credentials were found.", log_in_again, "for the first time: aws configure sso")
    if isinstance(error, botocore_errors.RefreshWithMFAUnsupportedError):
        return CommandFailed("The credentials of the role with MFA have ended.", "the same command again")
    if isinstance(error, botocore_errors.SSLError):
        return CommandFailed(
            "The TLS connection to AWS failed: the certificate that came is signed by nobody whom this machine trusts, "
            "as behind a proxy that opens TLS.",
            f"do your organisation's roots stand in the file that AWS_CA_BUNDLE names, {roots}"
            if (roots := os.environ.get("AWS_CA_BUNDLE"))
            else "name the file with your organisation's roots: export AWS_CA_BUNDLE=/path/to/ca-bundle.pem",
        )
    if isinstance(error, _NO_ANSWER):
        return CommandFailed(
            f"AWS did not answer ({name}).", "check the network and proxy, and whether the Region is right"
        )
    return CommandFailed(f"AWS can't be used ({name}).", _WHO_AM_I)


def _refused(error: ClientError, log_in_again: Run) -> CommandFailed:
    code = code_of(error)
    if code in _ENDED:
        return CommandFailed(f"The AWS credentials have ended ({code}).", log_in_again)
    if code in _INVALID:
        return CommandFailed(f"AWS does not know these credentials ({code}).", _WHO_AM_I)
    if code in _DENIED and error.operation_name == "AssumeRole":
        return CommandFailed(
            "AWS does not let this profile take its role; if the role asks for an MFA code, it was wrong or missing.",
            _WHO_AM_I,
        )
    if code in _DENIED:
        return CommandFailed(
            f"AWS denies {error.operation_name} to these credentials ({code}).",
            "attach the stack's policy to your user or role: output OperatorPolicyArn to look, check and refresh, "
            "output LoginPolicyArn to log in and remove",
        )
    return CommandFailed(f"AWS refuses {error.operation_name} ({code}).")
