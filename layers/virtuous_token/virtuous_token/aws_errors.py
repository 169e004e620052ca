"""What is wrong when AWS gives no secret, and what to do: every exception of botocore's as one of ours.

Told by the step that failed (settings, credentials, the read), by the type of botocore's error and by AWS's codes;
never by wording. No text of others is quoted: it may hold what a credential process printed, or a signed request.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from .errors import NoSuchSecret, NotAllowed, NotConfigured, NotLoggedIn, NoToken, Unreachable, UnreadableSecret, shown

__all__ = [
    "Asked",
    "CodeNeeded",
    "credentials_error",
    "is_of_a_signal_handler",
    "no_text",
    "read_error",
    "settings_error",
]

AGAIN = "later calls try again"
NOT_AWS = f"the answer is not one of AWS's: a proxy or a login page may stand between; {AGAIN}"
LOGIN = "the session at AWS has ended: run `aws sso login` or `aws login` for the profile"
# Types by their names, since older botocores lack some. The first that fits counts.
BY_TYPE: dict[str, tuple[type[NoToken], str]] = {
    "CodeNeeded": (
        NotConfigured,
        "the profile's role asks for an MFA code, and a reader asks nobody",
    ),
    "RefreshWithMFAUnsupportedError": (NotConfigured, "the role asks for an MFA code, and a reader asks nobody"),
    "ProfileNotFound": (NotConfigured, "AWS's config file has no such profile: set AWS_PROFILE to one that it has"),
    "SSOError": (NotConfigured, LOGIN),
    "TokenRetrievalError": (NotConfigured, LOGIN),
    "LoginError": (NotConfigured, LOGIN),
    "NoCredentialsError": (NotConfigured, "this process has no AWS credentials: give it a role, or set AWS_PROFILE"),
    "PartialCredentialsError": (NotConfigured, "only a part of the AWS credentials is there: set both keys"),
    "InvalidConfigError": (NotConfigured, "the profile's settings in AWS's config file are incomplete: correct them"),
    "ConfigParseError": (NotConfigured, "AWS's config or credentials file cannot be read: correct it"),
    "NoRegionError": (NotConfigured, "no Region is named: set AWS_REGION, or name the secret by its ARN"),
    "ProxyConnectionError": (Unreachable, f"the proxy that HTTPS_PROXY names could not be reached; {AGAIN}"),
    "ResponseParserError": (Unreachable, NOT_AWS),
    "ConnectionError": (Unreachable, f"Secrets Manager could not be reached; {AGAIN}"),
    "HTTPClientError": (Unreachable, f"Secrets Manager could not be reached; {AGAIN}"),
    "BotoCoreError": (NotConfigured, "the AWS settings of this process are not valid: check its AWS_ variables"),
}
DENIED = {"AccessDenied", "AccessDeniedException", "DecryptionFailure", "UnauthorizedOperation"}
BAD_NAME = {"InvalidParameterException", "ValidationException"}
# What Secrets Manager says of credentials, and what STS and SSO say when they can't answer now.
BAD_CREDENTIALS = {
    *("AuthFailure", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId"),
    *("InvalidClientTokenId", "InvalidSignatureException", "MissingAuthenticationToken", "OptInRequired"),
    *("RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "UnrecognizedClientException"),
}
LATER = {
    *("IDPCommunicationError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable"),
    *("Throttling", "ThrottlingException", "TooManyRequestsException"),
}
# AWS takes a signature that is at most five minutes off.
LARGEST_SKEW_SECONDS = 300


class CodeNeeded(Exception):
    """Raised where botocore would ask a person for an MFA code."""


class Asked(NamedTuple):
    """The secret that was asked for, where, and who named that Region."""

    name: str
    region: str | None = None
    region_source: str = "the environment"
    client: Any = None

    def __str__(self) -> str:
        where = f"in Region {self.region!r} (from {self.region_source})" if self.region else "(no Region is named)"
        return f"{shown(self.name)} {where}"


def settings_error(error: Exception, asked: Asked) -> NoToken:
    """Our error for *error*, which making a client ended in."""
    if isinstance(error, NoToken):
        return error
    kind, text = _by_type(error) or (NotConfigured, "the AWS settings of this process are not valid: check them")
    return kind(f"reading secret {asked} ended in {type(error).__name__}: {text}")


def credentials_error(error: Exception, asked: Asked) -> NoToken:
    """Our error for *error*, which finding or renewing credentials ended in."""
    what = f"AWS gives no credentials to read secret {shown(asked.name)}"
    operation = getattr(error, "operation_name", None)
    if operation is not None:
        code = _code(error)
        what += f": {operation} was refused ({code})"
        if code in LATER or code.isdigit() or _status(error) >= 500:
            return Unreachable(f"{what}; {AGAIN}")
        if not operation.startswith("AssumeRole"):
            return NotConfigured(f"{what}: {LOGIN}")
        return NotConfigured(
            f"{what}: check the role's ARN and trust policy, the caller's sts:AssumeRole, and whether the caller's own "
            "credentials or web identity token have ended"
        )
    what += f" ({type(error).__name__})"
    if _types_in(error) & {"ConnectionError", "HTTPClientError"}:
        return Unreachable(f"{what}: the service that gives them could not be reached; {AGAIN}")
    found = _by_type(error)
    if found is not None and found != BY_TYPE["BotoCoreError"]:
        return found[0](f"{what}: {found[1]}")
    if isinstance(error, OSError):
        return NotConfigured(f"{what}: the file {getattr(error, 'filename', None)!r} cannot be read")
    return NotConfigured(
        f"{what}: what gives them is set up wrongly, or its answer holds none: run the profile's credential_process by "
        "hand; check AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_CREDENTIALS_FULL_URI"
    )


def read_error(error: Exception, asked: Asked) -> NoToken:
    """Our error for *error*, which GetSecretValue ended in."""
    operation = getattr(error, "operation_name", None)
    if operation == "GetSecretValue":
        return _refused(error, asked)
    if operation is not None:
        return credentials_error(error, asked)
    what = f"reading secret {asked} ended in {type(error).__name__}"
    if "SSLCertVerificationError" in _types_in(error):
        return NotConfigured(f"{what}: AWS_CA_BUNDLE must name the certificates of your network")
    if "HTTPClientError" in _types_in(error) and "ValueError" in _types_in(error):
        return NotConfigured(f"{what}: the AWS credentials or the endpoint hold a character that no header may have")
    if "gaierror" in _types_in(error) and not _is_region(asked.region):
        return NotConfigured(f"{what}: there is no such Region; correct it in {asked.region_source}")
    is_odd = isinstance(error, AttributeError | KeyError | TypeError | ValueError)  # botocore's, for odd answers
    kind, text = _by_type(error) or (Unreachable, NOT_AWS if is_odd else AGAIN)
    return kind(f"{what}: {text}")


def no_text(asked: Asked, *, is_binary: bool) -> NoToken | UnreadableSecret:
    """Our error for an answer without a text."""
    if is_binary:
        return UnreadableSecret(f"secret {asked} holds bytes (SecretBinary) where text must be (SecretString)")
    return Unreachable(f"reading secret {asked}: {NOT_AWS}")


def _refused(error: Exception, asked: Asked) -> NoToken:
    code = _code(error)
    if code in DENIED:
        return NotAllowed(
            f"AWS refuses to read secret {asked} ({code}): attach the stack's reader policy to this role, allow it "
            "kms:Decrypt where the secret has a key of its own, and check the name: a misspelt one is refused as well"
        )
    if code in BAD_CREDENTIALS:
        skew = _skew_seconds(error)
        advice = "renew them; if they are right, check that the Region is enabled in the account"
        if abs(skew) > LARGEST_SKEW_SECONDS:
            advice = f"the clock of this machine differs from AWS's by {skew / 60:+.0f} minutes; set it"
        return NotConfigured(f"AWS refuses this process's credentials ({code}) for secret {asked}: {advice}")
    if code in BAD_NAME:
        return NotConfigured(f"AWS does not take secret {asked} for a name or an ARN of this Region ({code})")
    if code in {"ResourceNotFoundException", "InvalidRequestException"}:
        return _absent(code, asked)
    if code.isdigit() and _status(error) < 500:
        return Unreachable(f"reading secret {asked} was answered with status {code}; {NOT_AWS}")
    return Unreachable(f"Secrets Manager cannot give secret {asked} now ({code}); {AGAIN}")


def _absent(code: str, asked: Asked) -> NoToken:
    """AWS has one code for a secret that is not there and for one that has no value, and one for a secret that is
    marked for deletion and for another account's that cannot be decrypted; so ask which it is."""
    described: Any = None
    try:
        described = asked.client.describe_secret(SecretId=asked.name)
    except Exception as error:  # noqa: BLE001 - the first error is the one to tell
        if _code(error) == "ResourceNotFoundException":
            return NoSuchSecret(f"there is no secret {asked} in this account: check the name and AWS_REGION")
    if code == "ResourceNotFoundException" and not (described or {}).get("DeletedDate"):
        unsure = "" if described is not None else ", or does not exist in this account: check the name and AWS_REGION"
        return NotLoggedIn(f"secret {asked} has no value yet{unsure}: an operator must run `virtuous-token login`")
    foreign = "belongs to another account, whose owner must give it a key of its own and allow this role kms:Decrypt"
    if described is not None and not described.get("DeletedDate"):
        return NotAllowed(f"secret {asked} {foreign}")
    restore = f"is marked for deletion: run `aws secretsmanager restore-secret --secret-id {asked.name}`"
    return NoSuchSecret(f"secret {asked} {restore}" + ("" if described is not None else f"; or it {foreign}"))


def _is_region(name: str | None) -> bool:
    from botocore.session import Session

    session: Any = Session()
    partitions = session.get_available_partitions()
    return any(name in session.get_available_regions("secretsmanager", partition) for partition in partitions)


def _by_type(error: Exception) -> tuple[type[NoToken], str] | None:
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((found for name, found in BY_TYPE.items() if name in names), None)


def _types_in(error: BaseException | None) -> set[str]:
    """The names of the types of *error* and of what it came from."""
    names: set[str] = set()
    while error is not None:
        names |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return names


def _code(error: Any) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", "unknown"))


def _status(error: Any) -> int:
    return int(getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _skew_seconds(error: Any) -> float:
    """How far this machine's clock is ahead of AWS's, by the answer's Date; 0 where it has none."""
    headers = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return 0.0


def is_of_a_signal_handler(error: BaseException | None) -> bool:
    """True if a signal handler of the program raised *error*, or what it came from: then it is no trouble of AWS's."""
    import signal

    handlers = [getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()]
    while error is not None:
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_code in handlers:
                return True
            step = step.tb_next
        error = error.__cause__ or error.__context__
    return False
