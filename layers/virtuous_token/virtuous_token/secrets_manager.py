"""Secrets Manager as a reader needs it: one client with short timeouts, one read, and AWS's errors by their codes."""

from __future__ import annotations

import os

from .errors import NoSuchSecret, NotAllowed, NotConfigured, NotLoggedIn, NoToken, Unreachable

TYPE_CHECKING = False  # type checkers take it for typing's, whose import takes longer than the rest of the package
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    class SecretsManager(Protocol):
        """What the reader needs of a client; one of boto3's or botocore's will do."""

        def get_secret_value(self, *, SecretId: str, VersionStage: str) -> Mapping[str, Any]:  # noqa: N803
            """As in AWS's API of that name."""

        def describe_secret(self, *, SecretId: str) -> Mapping[str, Any]:  # noqa: N803
            """As in AWS's API of that name. Called only to tell a secret without a value from none at all."""


__all__ = ["SecretsManager", "connect", "read_current"]

# A read takes a few milliseconds in AWS. With three attempts and botocore's pauses between them these bound the wait
# for an endpoint that does not answer to half a minute.
CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
ATTEMPTS = 3

_REFUSED = {"AccessDeniedException", "AccessDenied", "DecryptionFailure"}
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_BAD_NAME = {"InvalidParameterException", "ValidationException"}


def connect(secret_id: str) -> SecretsManager:
    """A client for the Region in *secret_id* if that is an ARN, else for the Region of the environment.

    botocore's own session, because importing boto3 on top of it adds a tenth of a second to a cold start. The
    environment's AWS settings (credentials, profile, Region, ``AWS_ENDPOINT_URL``) count as they do for boto3.
    Raises NotConfigured.
    """
    try:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        raise NotConfigured("botocore is not installed: run `pip install botocore`") from None
    settings = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    session: Any = Session()
    try:
        # botocore overlooks AWS_REGION, which is all that some containers set.
        region = _region_in(secret_id) or session.get_config_variable("region") or os.environ.get("AWS_REGION")
        client: SecretsManager = session.create_client("secretsmanager", region_name=region, config=settings)
    except (BotoCoreError, ValueError) as error:
        problem = type(error).__name__
    else:
        return client
    raise NotConfigured(
        f"cannot make an AWS client to read secret {secret_id!r} ({problem}): set credentials and AWS_REGION, "
        "or name the secret by its ARN"
    )


def read_current(client: SecretsManager, secret_id: str) -> str | None:
    """The text of the version under AWSCURRENT; None where the secret holds bytes. Raises NoToken."""
    from botocore.exceptions import BotoCoreError, ClientError

    _hold_the_parsers_log()
    try:
        answer = client.get_secret_value(SecretId=secret_id, VersionStage="AWSCURRENT")
    except ClientError as error:
        problem = _refusal(_code(error), client, secret_id)
    except BotoCoreError as error:
        problem = _without_an_answer(error, secret_id)
    else:
        text: str | None = answer.get("SecretString")
        return text
    raise problem  # from here, so that it does not carry botocore's error, which holds the signed request


def _hold_the_parsers_log() -> None:
    """At DEBUG botocore logs every answer's body, so the token would stand in the log of whoever debugs."""
    import logging

    parsers = logging.getLogger("botocore.parsers")
    if parsers.level < logging.INFO:
        parsers.setLevel(logging.INFO)


def _region_in(secret_id: str) -> str | None:
    """Of ``arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf`` the fourth part."""
    parts = secret_id.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 6 else None


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _without_an_answer(error: Exception, secret_id: str) -> NoToken:
    from botocore import exceptions

    not_set_up = (
        exceptions.ConfigNotFound,
        exceptions.ConfigParseError,
        exceptions.NoCredentialsError,
        exceptions.NoRegionError,
        exceptions.ParamValidationError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
    )
    # Only the type's name goes into the text: some of botocore's messages quote what a credential process printed.
    what = f"reading secret {secret_id!r} ended in {type(error).__name__}"
    if isinstance(error, not_set_up):
        return NotConfigured(f"{what}: set AWS credentials and AWS_REGION for this process")
    return Unreachable(f"{what}: Secrets Manager could not be reached; later calls try again")


def _refusal(code: str, client: SecretsManager, secret_id: str) -> NoToken:
    secret = f"secret {secret_id!r}"
    if code in _REFUSED:
        return NotAllowed(
            f"AWS refuses to read {secret} ({code}): attach the stack's reader policy to this role, and allow it "
            "kms:Decrypt where the secret has a key of its own"
        )
    if code in _BAD_CREDENTIALS:
        return NotConfigured(f"AWS refuses this process's credentials ({code}): renew them")
    if code in _BAD_NAME:
        return NotConfigured(f"AWS does not take {secret} for a name or an ARN of this Region ({code})")
    if code in {"ResourceNotFoundException", "InvalidRequestException"}:
        return _absence(code, client, secret_id)
    return Unreachable(f"Secrets Manager cannot give {secret} now ({code}); later calls try again")


def _absence(code: str, client: SecretsManager, secret_id: str) -> NoToken:
    """AWS has one code for a secret that is not there and for one that has no value, so ask which it is."""
    from botocore.exceptions import BotoCoreError, ClientError

    secret = f"secret {secret_id!r}"
    deleted = NoSuchSecret(
        f"{secret} is marked for deletion: run `aws secretsmanager restore-secret --secret-id {secret_id}`"
    )
    try:
        described = client.describe_secret(SecretId=secret_id)
    except ClientError as error:
        if _code(error) == "ResourceNotFoundException":
            return NoSuchSecret(f"there is no {secret} in this account and Region: check the name and AWS_REGION")
    except BotoCoreError:
        pass
    else:
        if described.get("DeletedDate"):
            return deleted
        return NotLoggedIn(f"{secret} has no value yet: an operator must run `virtuous-token login`")
    if code == "InvalidRequestException":
        return deleted
    return NotLoggedIn(
        f"{secret} has no value yet, or does not exist in this account and Region: check the name and AWS_REGION; "
        "if they are right, an operator must run `virtuous-token login`"
    )
