"""The masked text: no way to print, copy out, compare by chance or pickle a secret shows it."""

from __future__ import annotations

import copy
import dataclasses
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
        pytest.param(lambda secret: f"{secret} {secret!r:>30}", id="an f-string"),
        pytest.param(lambda secret: f"{secret:>30}", id="an f-string with a width"),
        pytest.param(lambda secret: "%s %r" % (secret, [{secret: secret}]), id="percent"),  # noqa: UP031
        pytest.param(lambda secret: repr(dataclasses.asdict(Holder(secret))), id="a dataclass"),
        pytest.param(lambda secret: "".join(traceback.format_exception(ValueError(secret))), id="an exception"),
        pytest.param(lambda secret: repr(copy.deepcopy([copy.copy(secret)])), id="copies"),
        pytest.param(lambda secret: logging.makeLogRecord({"msg": "%s", "args": (secret,)}).getMessage(), id="a log"),
    ],
)
def test_shows_three_stars(show: Callable[[SecretText], str]) -> None:
    shown = show(SECRET)
    assert "***" in shown
    assert "s3cret" not in shown
    assert SECRET.reveal() == "s3cret-1"


def test_is_equal_to_the_same_secret_alone_and_false_where_it_is_empty() -> None:
    assert SecretText("s3cret-1") == SECRET != SecretText("s3cret-2")
    assert SECRET != "s3cret-1"
    assert len({SECRET, SecretText("s3cret-1"), SecretText("lone surrogate \udc80")}) == 2
    assert (bool(SecretText("")), bool(SECRET)) == (False, True)
    assert SECRET.fingerprint() == SecretText("s3cret-1").fingerprint() != SecretText("\udc80").fingerprint()
    assert (len(SECRET.fingerprint()), int(SECRET.fingerprint(), 16) >= 0) == (8, True)


def test_cannot_be_pickled_and_holds_text_alone() -> None:
    with pytest.raises(TypeError, match="plain text"):
        pickle.dumps(SECRET)
    with pytest.raises(TypeError, match=r"^a SecretText holds a str, not bytes$"):
        SecretText(b"s3cret-1")  # type: ignore[arg-type]
