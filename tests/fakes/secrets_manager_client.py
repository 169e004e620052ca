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

from .secrets_manager import TRANSPORT_ERRORS, AwsError, StrictSecretsManager

PARSER = botocore.parsers.create_parser("json")


def client_of(strict: StrictSecretsManager) -> Any:
    """A new client in front of *strict*: a copy of one per Region, which takes half a millisecond. Threads may share
    it."""
    template = _template(strict.region)
    client = object.__new__(type(template))  # copy.copy asks an empty client for attributes, and that never ends
    client.__dict__.update(vars(template))
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
            if refusal.code in TRANSPORT_ERRORS:
                lost = getattr(botocore.exceptions, refusal.code)
                raise lost(endpoint_url=params["url"], error="no answer") from None
            status = 500 if refusal.code == "InternalServiceError" else 400
            body = {"__type": refusal.code, "message": refusal.message}
        date = format_datetime(strict.now().astimezone(UTC), usegmt=True)
        received = {"status_code": status, "headers": {"date": date}, "body": json.dumps(body).encode()}
        return AWSResponse(params["url"], status, HTTPHeaders(), None), PARSER.parse(received, model.output_shape)

    events.register("before-call.secrets-manager", answer)


@functools.cache
def _template(region_name: str) -> Any:
    # botocore puts its user agent together for every call, which is half of the time that a call takes here.
    session = boto3.session.Session("none", "none", region_name=region_name)
    return session.client("secretsmanager", config=Config(user_agent="strict"))
