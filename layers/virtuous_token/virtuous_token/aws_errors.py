"""What is wrong when AWS gives no secret, and what to do: every exception of botocore's as one of ours.

Told by the operation that failed (finding credentials, making a client, reading the secret), by the type of the error
and by AWS's codes; never by wording. No text of others is quoted: botocore's may hold what a credential process
printed, a signed request or an answer's body.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .errors import NoSuchSecret, NotAllowed, NotConfigured, NotLoggedIn, NoToken, Unreachable, UnreadableSecret
from .secret_name import shown
from .secrets_manager import Connection

__all__ = ["CodeNeeded", "explained", "without_text"]

AGAIN = "; later calls try again"
_PROFILE = "set AWS_PROFILE to a profile that is in AWS's config file"
_LOGIN_AT_AWS = "log in again, with `aws sso login` or `aws login` for the profile"
_MFA = (
    "the profile's role asks for an MFA code, and a reader asks nobody: put temporary credentials into the environment "
    "(`aws configure export-credentials`, `aws sts get-session-token`)"
)
_NOT_AWS = (
    "the answer is not one of AWS's: a proxy or a login page may stand between; check the endpoint and the network"
)

# By the names of types, since older botocores lack some. The first that fits counts.
_BY_TYPE: tuple[tuple[set[str], type[NoToken], str], ...] = (
    ({"CodeNeeded", "RefreshWithMFAUnsupportedError"}, NotConfigured, _MFA),
    ({"ProfileNotFound"}, NotConfigured, f"AWS's config file has no such profile: {_PROFILE}"),
    (
        {"SSOError", "TokenRetrievalError", "LoginError"},
        NotConfigured,
        f"the session at AWS has ended: {_LOGIN_AT_AWS}",
    ),
    (
        {"NoCredentialsError", "NoAuthTokenError"},
        NotConfigured,
        "this process has no AWS credentials: give it a role, or set AWS_PROFILE",
    ),
    (
        {"PartialCredentialsError"},
        NotConfigured,
        "only a part of the AWS credentials is there: set the access key's id and the secret access key",
    ),
    (
        {"ConfigParseError", "ConfigNotFound"},
        NotConfigured,
        "AWS's config or credentials file cannot be read: correct it",
    ),
    ({"InvalidConfigError"}, NotConfigured, "the profile's settings in AWS's config file are incomplete: correct them"),
    ({"NoRegionError"}, NotConfigured, "no Region is named: set AWS_REGION, or name the secret by its ARN"),
    ({"InvalidRegionError"}, NotConfigured, "that is not the name of a Region: correct it"),
    ({"ProxyConnectionError"}, Unreachable, f"the proxy that HTTPS_PROXY names could not be reached{AGAIN}"),
    ({"ResponseParserError"}, Unreachable, _NOT_AWS + AGAIN),
    (
        {"ConnectionError", "HTTPClientError", "OSError"},
        Unreachable,
        f"Secrets Manager could not be reached{AGAIN}",
    ),
    ({"ParamValidationError"}, NotConfigured, "AWS does not take the secret's name: correct it"),
)
_UNREACHABLE = {"ConnectionError", "HTTPClientError"}

_DENIED = {"AccessDenied", "AccessDeniedException", "DecryptionFailure", "UnauthorizedOperation"}
_BAD_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "OptInRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_BAD_NAME = {"InvalidParameterException", "ValidationException"}
_LATER = {
    "IDPCommunicationError",
    "InternalFailure",
    "InternalServiceError",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
# AWS takes a signature that is at most five minutes off.
LARGEST_SKEW_SECONDS = 300


class CodeNeeded(Exception):
    """Raised where botocore would ask a person for an MFA code."""


def explained(error: Exception, secret_id: str, connection: Connection) -> NoToken:
    """Our error for *error*, which finding credentials, making a client or reading *secret_id* ended in."""
    operation = getattr(error, "operation_name", None)
    if operation in {"GetSecretValue", "DescribeSecret"}:
        return _refused(error, secret_id, connection)
    if operation is not None:
        return _credentials_refused(error, str(operation), secret_id)
    where = f"reading secret {_named(secret_id, connection)} ended in {type(error).__name__}"
    if _came_through(error, "botocore.credentials", "botocore.tokens"):
        return _without_credentials(error, where)
    return _not_answered(error, where, connection)


def without_text(secret_id: str, connection: Connection, *, is_binary: bool) -> NoToken | UnreadableSecret:
    """Our error for an answer without a text."""
    if is_binary:
        return UnreadableSecret(
            f"secret {shown(secret_id)} holds bytes (SecretBinary) where text must be (SecretString)"
        )
    return Unreachable(f"reading secret {_named(secret_id, connection)}: {_NOT_AWS}{AGAIN}")


def _not_answered(error: Exception, where: str, connection: Connection) -> NoToken:
    names, chain = _type_names(error), {name for link in _chain(error) for name in _type_names(link)}
    if "SSLError" in names and chain & {"FileNotFoundError", "SSLCertVerificationError"}:
        return NotConfigured(
            f"{where}: the connection's certificate is not accepted, or AWS_CA_BUNDLE names a file that is not there: "
            "set AWS_CA_BUNDLE to the certificates of your network"
        )
    if names & _UNREACHABLE and "gaierror" in chain and not _is_known(connection.region):
        return NotConfigured(f"{where}: there is no such Region; correct it in {connection.source}")
    if "HTTPClientError" in names and "ValueError" in chain:
        return NotConfigured(f"{where}: the AWS credentials or the endpoint hold a character that no header may have")
    explained = _by_type(names, where)
    if explained is not None:
        return explained
    if _came_through(error, "botocore.parsers"):
        return Unreachable(f"{where}: {_NOT_AWS}{AGAIN}")
    if "BotoCoreError" in names or _came_through(error, "botocore.args", "botocore.auth", "botocore.session"):
        return NotConfigured(f"{where}: AWS's settings of this process are not valid; check its AWS_ variables")
    return Unreachable(f"{where}{AGAIN}")


def _by_type(names: set[str], where: str) -> NoToken | None:
    for types, kind, text in _BY_TYPE:
        if types & names:
            return kind(f"{where}: {text}")
    return None


def _without_credentials(error: Exception, where: str) -> NoToken:
    what = f"{where}, while AWS credentials were looked for"
    if {name for link in _chain(error) for name in _type_names(link)} & _UNREACHABLE:
        return Unreachable(f"{what}: the service that gives them could not be reached{AGAIN}")
    explained = _by_type(_type_names(error) - {"OSError", "ParamValidationError"}, what)
    if explained is not None:
        return explained
    if isinstance(error, OSError):
        file = f" {error.filename!r}" if isinstance(error.filename, str) else ""
        return NotConfigured(
            f"{what}: the file{file} cannot be read (AWS_WEB_IDENTITY_TOKEN_FILE, a credential process or another file "
            "that gives credentials): correct its path or its rights"
        )
    provider = str(getattr(error, "kwargs", {}).get("provider", ""))
    if provider == "custom-process" or _came_through(error, "json.decoder"):
        return NotConfigured(
            f"{what}: the profile's credential_process failed, or printed no credentials: run it by hand"
        )
    return NotConfigured(
        f"{what}: what gives them is set up wrongly, or its answer holds none: check the profile, AWS_ROLE_ARN, "
        "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_CREDENTIALS_FULL_URI, whichever this process uses"
    )


def _credentials_refused(error: Exception, operation: str, secret_id: str) -> NoToken:
    """Another service, STS as a rule, refused the credentials with which the secret was to be read."""
    code = _code(error)
    what = f"AWS gives no credentials to read secret {shown(secret_id)}: {operation} was refused ({code})"
    if code in _LATER or _status(error) >= 500:
        return Unreachable(what + AGAIN)
    if code.isdigit():
        return Unreachable(f"{what}; {_NOT_AWS}{AGAIN}")
    if not operation.startswith("AssumeRole"):
        return NotConfigured(f"{what}: {_LOGIN_AT_AWS}")
    if code in _DENIED:
        return NotConfigured(
            f"{what}: the role's trust policy must allow this caller (with MFA only where the caller has it), and the "
            "caller's policy sts:AssumeRole"
        )
    return NotConfigured(
        f"{what}: check the role's ARN, the caller's credentials or web identity token, and whether they have ended"
    )


def _refused(error: Exception, secret_id: str, connection: Connection) -> NoToken:
    code = _code(error)
    secret = f"secret {_named(secret_id, connection)}"
    if code in _DENIED:
        return NotAllowed(
            f"AWS refuses to read {secret} ({code}): attach the stack's reader policy to this role, allow it "
            "kms:Decrypt where the secret has a key of its own, and check the name: a misspelt one is refused as well"
            + _other_region(secret_id, connection)
        )
    if code in _BAD_CREDENTIALS:
        skew = _skew_seconds(error)
        if abs(skew) > LARGEST_SKEW_SECONDS:
            return NotConfigured(
                f"AWS refuses this process's signature ({code}) for {secret}: the clock of this machine differs from "
                f"AWS's by {skew / 60:+.0f} minutes; set it"
            )
        return NotConfigured(
            f"AWS refuses this process's credentials ({code}) for {secret}: renew them; if they are right, check the "
            "clock, and whether the Region is enabled in the account"
        )
    if code in _BAD_NAME:
        return NotConfigured(
            f"AWS does not take {secret} for a name or an ARN of this Region ({code})"
            + _other_region(secret_id, connection)
        )
    if code in {"ResourceNotFoundException", "InvalidRequestException"}:
        return _absence(code, secret_id, connection)
    if code.isdigit() and _status(error) < 500:
        return Unreachable(f"reading {secret} was answered with status {code}; {_NOT_AWS}{AGAIN}")
    return Unreachable(f"Secrets Manager cannot give {secret} now ({code}){AGAIN}")


def _absence(code: str, secret_id: str, connection: Connection) -> NoToken:
    """AWS has one code for a secret that is not there and for one that has no value, and one for a secret that is
    marked for deletion and for another account's that cannot be decrypted; so ask which it is."""
    secret = f"secret {_named(secret_id, connection)}"
    deleted = f"is marked for deletion: run `aws secretsmanager restore-secret --secret-id {secret_id}`"
    foreign = (
        "belongs to another account and is encrypted with that account's default key, which nobody else can use: its "
        "owner must give it a key of its own, and allow this role kms:Decrypt"
    )
    described = None
    try:
        described = connection.client.describe_secret(SecretId=secret_id)
        is_deleted = bool(described.get("DeletedDate"))
    except Exception as error:  # noqa: BLE001 - the first error is the one to tell
        is_deleted = False
        if _code(error) == "ResourceNotFoundException":
            return NoSuchSecret(f"there is no {secret} in this account: check the name and AWS_REGION")
    if is_deleted:
        return NoSuchSecret(f"{secret} {deleted}")
    if code == "InvalidRequestException":
        if described is not None:
            return NotAllowed(f"{secret} {foreign}")
        return NoSuchSecret(f"{secret} {deleted}; or it {foreign}")
    if described is not None:
        return NotLoggedIn(f"{secret} has no value yet: an operator must run `virtuous-token login`")
    return NotLoggedIn(
        f"{secret} has no value yet, or does not exist in this account: check the name and AWS_REGION; if they are "
        "right, an operator must run `virtuous-token login`"
    )


def _named(secret_id: str, connection: Connection) -> str:
    region = connection.region
    where = f"in Region {region!r} (from {connection.source})" if region else f"(no Region in {connection.source})"
    return f"{shown(secret_id)} {where}"


def _other_region(secret_id: str, connection: Connection) -> str:
    parts = secret_id.split(":")
    if len(parts) > 6 and connection.region and parts[3] != connection.region:
        return f"; the ARN is of Region {parts[3]!r}, another one than was asked"
    return ""


def _is_known(region: str | None) -> bool:
    from botocore.session import Session

    session: Any = Session()
    return any(
        region in session.get_available_regions("secretsmanager", partition)
        for partition in session.get_available_partitions()
    )


def _came_through(error: BaseException, *modules: str) -> bool:
    """True if one of *modules* is among those that *error* passed on its way."""
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__") in modules:
            return True
        step = step.tb_next
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """*error*, and every exception that it came from or holds."""
    queue, seen = [error], set()
    while queue:
        link = queue.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        held = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args)
        held += tuple(getattr(link, "kwargs", {}).values())
        queue += [other for other in held if isinstance(other, BaseException)]


def _type_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


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
