"""What is wrong when AWS gives no secret, and what to do: every exception of botocore's as one of ours.

Told by the step that failed (settings, credentials, the read), by the type of botocore's error and by AWS's codes;
never by wording. No text of others is quoted: it may hold what a credential process printed, or a signed request.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .errors import NoSuchSecret, NotAllowed, NotConfigured, NotLoggedIn, NoToken, Unreachable, shown

AGAIN = "later calls try again"
NOT_AWS = f"the answer is not one of AWS's: a proxy or a login page may stand between; {AGAIN}"
LOGIN = "the session at AWS has ended: run `aws sso login` or `aws login` for the profile"
ROLE = "check the role's trust policy, the caller's sts:AssumeRole, and that the caller's credentials work"
DENIED = "attach the stack's reader policy, allow kms:Decrypt on a key of its own; a misspelt name is refused as well"
GIVER = """what gives them is set up wrongly, or its answer holds none: run credential_process by hand, check \
AWS_ROLE_ARN and AWS_CONTAINER_CREDENTIALS_FULL_URI"""
CREDENTIALS = "renew the AWS credentials; if they are right, check this machine's clock, and that the Region is enabled"
SETTINGS = (NotConfigured, "the AWS settings of this process are not valid: check AWS_ variables and the profile")
Found = tuple[type[NoToken], str]
# Types of the error and what it came from, by name, since older versions lack some. The first line that fits counts.
BY_TYPE: dict[str, Found] = {
    "SSLCertVerificationError": (NotConfigured, "AWS_CA_BUNDLE must name the certificates of your network"),
    "ConnectionError HTTPClientError": (Unreachable, f"the service (or HTTPS_PROXY) could not be reached; {AGAIN}"),
    "RefreshWithMFAUnsupportedError": (NotConfigured, "its role asks for an MFA code, a reader asks nobody"),
    "ProfileNotFound": (NotConfigured, "AWS's config file has no such profile: set AWS_PROFILE to one that it has"),
    "SSOError TokenRetrievalError LoginError": (NotConfigured, LOGIN),
    "NoCredentialsError": (NotConfigured, "this process has no AWS credentials: give it a role, or set AWS_PROFILE"),
    "NoRegionError": (NotConfigured, "no Region is named: set AWS_REGION, or name the secret by its ARN"),
    "ResponseParserError": (Unreachable, NOT_AWS),
    "BotoCoreError": SETTINGS,
}
# What Secrets Manager refuses a read with. Any other code is one that a later call may not meet.
BY_CODE: dict[str, Found] = {
    "AccessDenied AccessDeniedException DecryptionFailure UnauthorizedOperation": (NotAllowed, DENIED),
    """AuthFailure ExpiredToken ExpiredTokenException IncompleteSignature InvalidAccessKeyId InvalidClientTokenId
    InvalidSignatureException MissingAuthenticationToken OptInRequired RequestExpired RequestTimeTooSkewed
    SignatureDoesNotMatch UnrecognizedClientException""": (NotConfigured, CREDENTIALS),
    "InvalidParameterException ValidationException": (NotConfigured, "AWS does not take it for a name or an ARN"),
}
# What STS and SSO say when they can't answer now, beside a status of 500 or more.
LATER = {"IDPCommunicationError", "Throttling", "ThrottlingException", "TooManyRequestsException"}


class Asked(NamedTuple):
    """The secret that was asked for, where, and who named that Region."""

    name: str
    region: str | None = None
    region_source: str = "the environment"
    client: Any = None

    def __str__(self) -> str:
        where = f"in Region {self.region!r} (from {self.region_source})" if self.region else "(no Region is named)"
        return f"{shown(self.name)} {where}"


def credentials_error(error: Exception, asked: Asked) -> NoToken:
    """Our error for *error*, which finding or renewing credentials ended in."""
    what = f"AWS gives no credentials to read secret {shown(asked.name)} ({type(error).__name__})"
    operation, code, status = _refusal(error)
    if operation:
        refused = f"{what}: {operation} was refused ({code})"
        if code in LATER or code.isdigit() or status >= 500:
            return Unreachable(f"{refused}; {AGAIN}")
        return NotConfigured(f"{refused}: {ROLE if 'Role' in operation else LOGIN}")
    kind, text = found = _found(BY_TYPE, _types_of(error))
    if found is SETTINGS:
        text = f"the file {error.filename!r} cannot be read" if isinstance(error, OSError) else GIVER
    return kind(f"{what}: {text}")


def read_error(error: Exception, asked: Asked, otherwise: Found = (Unreachable, NOT_AWS)) -> NoToken:
    """Our error for *error*, which GetSecretValue ended in. botocore stumbles over odd answers, hence *otherwise*."""
    operation, code, status = _refusal(error)
    if operation not in ("", "GetSecretValue"):
        return credentials_error(error, asked)
    if code in {"ResourceNotFoundException", "InvalidRequestException"}:
        return _absent(code, asked)
    types = _types_of(error)
    if operation:
        kind, text = _found(BY_CODE, {code}, (Unreachable, NOT_AWS if code.isdigit() and status < 500 else AGAIN))
    elif "gaierror" in types and not _is_region(asked.region):
        kind, text = NotConfigured, f"there is no such Region; correct it in {asked.region_source}"
    elif {"HTTPClientError", "ValueError"} <= types:  # a key or an address with a character that no header may have
        kind, text = SETTINGS
    else:
        kind, text = _found(BY_TYPE, types, otherwise)
    return kind(f"reading secret {asked} ended in {code if operation else type(error).__name__}: {text}")


def _absent(code: str, asked: Asked) -> NoToken:
    """AWS has one code for a secret that is not there and for one that has no value, and one for a secret that is
    marked for deletion and for another account's that cannot be decrypted; so ask which it is."""
    described: Any = None
    try:
        described = asked.client.describe_secret(SecretId=asked.name)
    except Exception as error:  # noqa: BLE001 - the first error is the one to tell
        if _refusal(error)[1] == "ResourceNotFoundException":
            return NoSuchSecret(f"there is no secret {asked} in this account: check the name and AWS_REGION")
    is_there = described is not None and not described.get("DeletedDate")
    if code == "ResourceNotFoundException" and (described is None or is_there):
        unsure = "" if is_there else ", or does not exist in this account: check the name and AWS_REGION"
        return NotLoggedIn(f"secret {asked} has no value yet{unsure}: an operator must run `virtuous-token login`")
    foreign = "belongs to another account, whose owner must give it a key of its own and allow this role kms:Decrypt"
    if is_there:
        return NotAllowed(f"secret {asked} {foreign}")
    restore = f"is marked for deletion: run `aws secretsmanager restore-secret --secret-id {asked.name}`"
    return NoSuchSecret(f"secret {asked} {restore}" + (f"; or it {foreign}" if described is None else ""))


def _is_region(name: str | None) -> bool:
    from botocore.session import Session

    session: Any = Session()
    partitions = session.get_available_partitions()
    return any(name in session.get_available_regions("secretsmanager", partition) for partition in partitions)


def _types_of(error: Exception) -> set[str]:
    return {kind.__name__ for one in chain_of(error) for kind in type(one).__mro__}


def _found(table: dict[str, Found], names: set[str], otherwise: Found = SETTINGS) -> Found:
    return next((found for key, found in table.items() if not names.isdisjoint(key.split())), otherwise)


def chain_of(error: BaseException | None) -> list[BaseException]:
    """*error* and what it came from."""
    return [] if error is None else [error, *chain_of(error.__cause__ or error.__context__)]


def _refusal(error: Any) -> tuple[str, str, int]:
    """The operation that AWS refused, its code for that and the HTTP status; empty where the error is none of AWS's."""
    response = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return getattr(error, "operation_name", ""), str(response.get("Error", {}).get("Code", "no code")), int(status)
