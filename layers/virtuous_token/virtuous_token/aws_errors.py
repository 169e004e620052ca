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
DENIED = "attach the stack's reader policy, allow kms:Decrypt on a key of its own; a misspelt name is refused as well"
CREDENTIALS = "renew the AWS credentials; if they are right, check this machine's clock, and that the Region is enabled"
SETTINGS = (NotConfigured, "the AWS settings of this process are not valid: check AWS_ variables and the profile")
Found = tuple[type[NoToken], str]
# botocore's types by their names, since older versions lack some. The first line that fits counts.
BY_TYPE: dict[str, Found] = {
    "CodeNeeded RefreshWithMFAUnsupportedError": (NotConfigured, "its role asks for an MFA code, a reader asks nobody"),
    "ProfileNotFound": (NotConfigured, "AWS's config file has no such profile: set AWS_PROFILE to one that it has"),
    "SSOError TokenRetrievalError LoginError": (NotConfigured, LOGIN),
    "NoCredentialsError": (NotConfigured, "this process has no AWS credentials: give it a role, or set AWS_PROFILE"),
    "NoRegionError": (NotConfigured, "no Region is named: set AWS_REGION, or name the secret by its ARN"),
    "ProxyConnectionError": (Unreachable, f"the proxy that HTTPS_PROXY names could not be reached; {AGAIN}"),
    "ResponseParserError": (Unreachable, NOT_AWS),
    "ConnectionError HTTPClientError": (Unreachable, f"the service could not be reached; {AGAIN}"),
    "BotoCoreError": SETTINGS,
}
# What Secrets Manager refuses a read with. Any other code is one that a later call may not meet.
BY_CODE: dict[str, Found] = {
    "AccessDenied AccessDeniedException DecryptionFailure UnauthorizedOperation": (NotAllowed, DENIED),
    """AuthFailure ExpiredToken ExpiredTokenException IncompleteSignature InvalidAccessKeyId InvalidClientTokenId
    InvalidSignatureException MissingAuthenticationToken OptInRequired RequestExpired RequestTimeTooSkewed
    SignatureDoesNotMatch UnrecognizedClientException""": (NotConfigured, CREDENTIALS),
    "InvalidParameterException ValidationException": (
        NotConfigured,
        "AWS does not take it for a name or an ARN",
    ),
}
# What STS and SSO say when they can't answer now.
LATER = {"IDPCommunicationError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable", "Throttling"}
LATER |= {"ThrottlingException", "TooManyRequestsException"}


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
    kind, text = _by_type(error)
    return kind(f"reading secret {asked} ended in {type(error).__name__}: {text}")


def credentials_error(error: Exception, asked: Asked) -> NoToken:
    """Our error for *error*, which finding or renewing credentials ended in."""
    what = f"AWS gives no credentials to read secret {shown(asked.name)} ({type(error).__name__})"
    operation = getattr(error, "operation_name", None)
    if operation is not None:
        code, status = _code_and_status(error)
        if code in LATER or code.isdigit() or status >= 500:
            return Unreachable(f"{what}: {operation} was refused ({code}); {AGAIN}")
        role = "check the role's trust policy, the caller's sts:AssumeRole, and that the caller's credentials work"
        return NotConfigured(f"{what}: {operation} was refused ({code}): {role if 'Role' in operation else LOGIN}")
    kind, text = found = _by_type(error)
    if not _types_of(*chain_of(error)).isdisjoint({"ConnectionError", "HTTPClientError"}):
        kind, text = Unreachable, f"the service that gives them could not be reached; {AGAIN}"
    elif found is SETTINGS and isinstance(error, OSError):
        text = f"the file {error.filename!r} cannot be read"
    elif found is SETTINGS:
        text = "what gives them is set up wrongly, or its answer holds none: run credential_process by hand, check "
        text += "AWS_ROLE_ARN and AWS_CONTAINER_CREDENTIALS_FULL_URI"
    return kind(f"{what}: {text}")


def read_error(error: Exception, asked: Asked) -> NoToken:
    """Our error for *error*, which GetSecretValue ended in."""
    operation = getattr(error, "operation_name", None)
    if operation not in (None, "GetSecretValue"):
        return credentials_error(error, asked)
    code, status = _code_and_status(error)
    if code in {"ResourceNotFoundException", "InvalidRequestException"}:
        return _absent(code, asked)
    origins = _types_of(*chain_of(error))
    if operation is not None:
        kind, text = _found(BY_CODE, {code}, (Unreachable, NOT_AWS if code.isdigit() and status < 500 else AGAIN))
    elif "SSLCertVerificationError" in origins:
        kind, text = NotConfigured, "AWS_CA_BUNDLE must name the certificates of your network"
    elif "gaierror" in origins and not _is_region(asked.region):
        kind, text = NotConfigured, f"there is no such Region; correct it in {asked.region_source}"
    elif {"HTTPClientError", "ValueError"} <= origins:  # a key or an address with a character that no header may have
        kind, text = SETTINGS
    else:
        kind, text = _by_type(error, (Unreachable, NOT_AWS))  # botocore stumbles over answers that are odd
    return kind(f"reading secret {asked} ended in {code if operation else type(error).__name__}: {text}")


def _absent(code: str, asked: Asked) -> NoToken:
    """AWS has one code for a secret that is not there and for one that has no value, and one for a secret that is
    marked for deletion and for another account's that cannot be decrypted; so ask which it is."""
    described: Any = None
    try:
        described = asked.client.describe_secret(SecretId=asked.name)
    except Exception as error:  # noqa: BLE001 - the first error is the one to tell
        if _code_and_status(error)[0] == "ResourceNotFoundException":
            return NoSuchSecret(f"there is no secret {asked} in this account: check the name and AWS_REGION")
    is_unsure = described is None
    is_there = not is_unsure and not described.get("DeletedDate")
    if code == "ResourceNotFoundException" and (is_unsure or is_there):
        unsure = ", or does not exist in this account: check the name and AWS_REGION" if is_unsure else ""
        return NotLoggedIn(f"secret {asked} has no value yet{unsure}: an operator must run `virtuous-token login`")
    foreign = "belongs to another account, whose owner must give it a key of its own and allow this role kms:Decrypt"
    restore = f"is marked for deletion: run `aws secretsmanager restore-secret --secret-id {asked.name}`"
    kind = NotAllowed if is_there else NoSuchSecret
    return kind(f"secret {asked} " + "; or it ".join([foreign] if is_there else [restore, foreign][: 1 + is_unsure]))


def _is_region(name: str | None) -> bool:
    from botocore.session import Session

    session: Any = Session()
    partitions = session.get_available_partitions()
    return any(name in session.get_available_regions("secretsmanager", partition) for partition in partitions)


def _by_type(error: Exception, otherwise: Found = SETTINGS) -> Found:
    return _found(BY_TYPE, _types_of(error), otherwise)


def _types_of(*errors: BaseException) -> set[str]:
    return {kind.__name__ for error in errors for kind in type(error).__mro__}


def _found(table: dict[str, Found], names: set[str], otherwise: Found) -> Found:
    return next((found for key, found in table.items() if not names.isdisjoint(key.split())), otherwise)


def chain_of(error: BaseException | None) -> list[BaseException]:
    """*error* and what it came from."""
    return [] if error is None else [error, *chain_of(error.__cause__ or error.__context__)]


def _code_and_status(error: Any) -> tuple[str, int]:
    response = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(response.get("Error", {}).get("Code", "no code")), int(status)
