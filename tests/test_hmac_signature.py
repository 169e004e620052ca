"""The HMAC signature, as the one public description of it tells; its keys leak nowhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from tests.fakes.one_bearer import frames_of
from tests.fakes.secrets_manager import StrictSecretsManager
from virtuous_token import UnreadableSecret
from virtuous_token.hmac_signature import HmacKeys

URL = "https://api.virtuoussoftware.com/api/Contact/ByReference/Ab%20C"
PRIVATE_KEY = base64.b64encode(b"a private key of 32 bytes, random").decode()
NAME = "virtuous/default/hmac"
NOW = 1_795_600_800.9


def read(stored: object) -> HmacKeys:
    client = StrictSecretsManager().client()
    client.create_secret(Name=NAME, SecretString=json.dumps(stored))
    return HmacKeys.read(NAME, client=client)


def test_signs_the_lower_cased_key_url_method_nonce_and_time() -> None:
    keys = read({"application_key": " App-Key\n", "private_key": f" {PRIVATE_KEY} ", "note": "unknown"})
    signed = (
        "app-keyhttps%3a%2f%2fapi.virtuoussoftware.com%2fapi%2fcontact%2fbyreference%2fab%2520cgetnonce-11795600800"
    )
    digest = hmac.new(b"a private key of 32 bytes, random", signed.encode(), hashlib.sha256).digest()
    expected = f"Hmac App-Key:{base64.b64encode(digest).decode()}:Nonce-1:1795600800"
    assert keys.authorization("GET", URL, nonce="Nonce-1", now=NOW) == expected
    assert keys.authorization("GET", URL, now=NOW) != keys.authorization("GET", URL, now=NOW)  # a nonce of its own
    assert repr(keys) == "HmacKeys('App-Key', ***)"


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        pytest.param({"application_key": "App-Key"}, "an application_key and a private_key", id="no private key"),
        pytest.param({"application_key": 1, "private_key": "s3cret"}, "both text", id="a number"),
        pytest.param({"application_key": "App-Key", "private_key": "s3cret!"}, "not base64", id="not base64"),
        pytest.param({"application_key": "App-Key", "private_key": "sécret"}, "not base64", id="not ASCII"),
        pytest.param({"application_key": "App:Key", "private_key": PRIVATE_KEY}, "colon", id="a colon"),
        pytest.param({"application_key": "App\nKey", "private_key": PRIVATE_KEY}, "quote", id="a newline"),
        pytest.param(["s3cret"], "not a JSON object", id="a list"),
    ],
)
def test_keys_that_cannot_be_used_are_told_without_their_values(stored: object, problem: str) -> None:
    with pytest.raises(UnreadableSecret, match=problem) as raised:
        read(stored)
    frames = [frame.f_locals for frame in frames_of(raised.value) if frame.f_code.co_filename != __file__]
    assert NAME in str(raised.value)
    assert not [secret for secret in ("s3cret", "sécret", PRIVATE_KEY) if secret in f"{raised.value} {frames}"]
