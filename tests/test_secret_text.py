"""The masked text: no way to print, copy out, compare by chance or pickle a secret shows it."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from virtuous_token.secret_text import SecretText

SECRET = SecretText("s3cret-1")


@dataclasses.dataclass
class Holder:
    token: SecretText


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(lambda secret: f"{secret}", id="an f-string"),
        pytest.param(lambda secret: f"{secret!r:>30}", id="an f-string with a width"),
        pytest.param(lambda secret: "%s %r" % (secret, secret), id="percent"),  # noqa: UP031
        pytest.param(lambda secret: repr([secret, {secret: secret}]), id="within others"),
        pytest.param(lambda secret: repr(Holder(secret)), id="a dataclass"),
        pytest.param(lambda secret: repr(dataclasses.asdict(Holder(secret))), id="asdict"),
        pytest.param(lambda secret: json.dumps({"token": secret}, default=str), id="JSON by str"),
        pytest.param(lambda secret: "".join(traceback.format_exception(ValueError(secret))), id="an exception"),
        pytest.param(lambda secret: repr(copy.deepcopy([copy.copy(secret)])), id="copies"),
    ],
)
def test_shows_three_stars(show: Callable[[SecretText], str]) -> None:
    shown = show(SECRET)
    assert "***" in shown
    assert "s3cret" not in shown


def test_reveal_gives_the_text() -> None:
    assert SECRET.reveal() == "s3cret-1"


def test_a_log_record_keeps_quiet(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(__name__).warning("token %s", SECRET)
    assert caplog.messages == ["token SecretText(***)"]


def test_is_equal_to_the_same_secret_alone() -> None:
    assert SecretText("s3cret-1") == SECRET
    assert hash(SecretText("s3cret-1")) == hash(SECRET)
    assert SecretText("s3cret-2") != SECRET
    assert SECRET != "s3cret-1"
    assert len({SECRET, SecretText("s3cret-1"), SecretText("lone surrogate \udc80")}) == 2


def test_is_false_where_it_is_empty() -> None:
    assert not SecretText("")
    assert SECRET


def test_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        SECRET._text = "other"
    with pytest.raises(AttributeError, match="cannot be changed"):
        del SECRET._text
    with pytest.raises(AttributeError):
        SECRET.other = "other"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="plain text"):
        pickle.dumps(SECRET, protocol)


def test_holds_text_alone_and_does_not_quote_anything_else() -> None:
    with pytest.raises(TypeError, match=r"^a SecretText holds a str, not bytes$"):
        SecretText(b"s3cret-1")  # type: ignore[arg-type]


def test_a_fingerprint_tells_one_from_another_and_is_always_the_same() -> None:
    assert SECRET.fingerprint() == SecretText("s3cret-1").fingerprint()
    assert SECRET.fingerprint() != SecretText("s3cret-2").fingerprint()
    assert len(SECRET.fingerprint()) == 8
    assert int(SECRET.fingerprint(), 16) >= 0
    assert SecretText("\udc80").fingerprint()
