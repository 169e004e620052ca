"""A real botocore client whose requests a StrictSecretsManager answers.

Parameter validation, the generated ClientRequestToken, the serialised request, the parsed answer and the exception
classes are botocore's own. Only the HTTP is cut out, and with it the SDK's retries: a fault reaches the caller at once.
"""

import copy
import functools
import json
from datetime import UTC
from email.utils import format_datetime
from typing import Any

import boto3
import botocore.exceptions
import botocore.parsers
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.config import Config

from .secrets_manager import AwsError, StrictSecretsManager, TransportError

PARSER = botocore.parsers.create_parser("json")


def client_of(strict: StrictSecretsManager, *, region_name: str, **config: Any) -> Any:
    """A new client in front of *strict*; *config* goes to `boto3.client`.

    Without *config* it is a copy of one client per Region, which takes half a millisecond. Threads may share it.
    """
    client = _new_client(region_name, **config) if config else _copy(_template(region_name))
    client.meta = copy.copy(client.meta)
    client.meta.events = copy.copy(client.meta.events)
    answer_through(strict, client.meta.events)
    return client


def answer_through(strict: StrictSecretsManager, events: Any) -> None:
    """Let *strict* answer what *events* would send: `client.meta.events`, or `session.events` for clients to come."""

    def answer(model: Any, params: Any, **_: object) -> tuple[AWSResponse, Any]:
        status, body = 200, {}
        try:
            body = strict.call(model.name, json.loads(params["body"]))
        except AwsError as refusal:
            status = 500 if refusal.code == "InternalServiceError" else 400
            body = {"__type": refusal.code, "message": refusal.message}
        except TransportError as lost:
            raise getattr(botocore.exceptions, lost.name)(endpoint_url=params["url"], error="no answer") from None
        date = format_datetime(strict.now().astimezone(UTC), usegmt=True)
        received = {"status_code": status, "headers": {"date": date}, "body": json.dumps(body).encode()}
        return AWSResponse(params["url"], status, HTTPHeaders(), None), PARSER.parse(received, model.output_shape)

    events.register("before-call.secrets-manager", answer)


def _copy(client: Any) -> Any:
    twin = object.__new__(type(client))  # copy.copy asks an empty client for attributes, and that never ends
    twin.__dict__.update(vars(client))
    return twin


@functools.cache
def _template(region_name: str) -> Any:
    # botocore puts its user agent together for every call, which is half of the time that a call takes here.
    return _new_client(region_name, config=Config(user_agent="strict"))


def _new_client(region_name: str, **config: Any) -> Any:
    credentials = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.session.Session().client("secretsmanager", region_name=region_name, **credentials | config)
