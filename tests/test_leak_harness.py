"""The leak harness sees what it must: a leak planted in each channel and in each form fails a test."""

import base64
import json
import logging
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from tests.fakes.virtuous import Virtuous
from tests.leak_harness import LeakHarness

SECRET = "s3cr€t/+ \"quoted\" 'ticked'\\"
# The last two show no secret: pytest tells of a comparison that failed by the reprs of both sides, and what is looked
# for is a secret, not just any text.
PLANTED = r"""
import logging, sys
import pytest
from tests.fakes.virtuous import Virtuous

@pytest.fixture(autouse=True)
def token(harness):
    return harness.secret("planted-secret-1")

def test_log_message(token):
    logging.getLogger("some.library").debug("sent " + token)

def test_log_argument_that_is_not_shown(token):
    logging.getLogger("some.library").info("sent %(name)s", {"name": "a token", "value": token})

def test_log_extra_field(token):
    logging.getLogger("some.library").info("sent", extra={"body": {"access_token": token}})

def test_log_of_a_logger_that_does_not_propagate(token):
    logger = logging.getLogger("some.island")
    logger.propagate = False
    logger.error("sent %s", token)

def test_log_of_an_exception_whose_cause_tells(token):
    try:
        try:
            raise ValueError(token)
        except ValueError as error:
            raise RuntimeError("it failed") from error
    except RuntimeError:
        logging.getLogger("some.library").exception("failed")

def test_standard_output(token):
    print(token)

def test_standard_error(token):
    print(token, file=sys.stderr)

def test_output_that_the_test_reads_itself(token, capsys):
    print(token)
    assert capsys.readouterr().out

def test_output_of_a_fixture_that_ends(late_printer):
    pass

@pytest.fixture
def late_printer(token):
    yield
    print(token)

def test_return_value(token, harness):
    harness.watch({"checked": 1, "note": token})

def test_expected_exception(token):
    with pytest.raises(ValueError):
        raise ValueError(token)

def test_expected_exception_whose_context_is_hidden(token):
    with pytest.raises(RuntimeError):
        try:
            token.encode("utf-8").decode("utf-16")
            raise KeyError(token)
        except Exception:
            raise RuntimeError("it failed") from None

def test_attribute_of_an_exception(token):
    error = ValueError("it failed")
    error.answer = token
    with pytest.raises(ValueError):
        raise error

def test_secret_that_a_stand_in_issued(capsys):
    with Virtuous() as virtuous:
        print(virtuous.issue_pair()["refresh_token"])

def test_base64_in_the_middle_of_more(token):
    import base64
    print("Basic", base64.b64encode(f"user:{token}:more".encode()).decode())

def test_metadata_of_a_metric(token):
    from aws_lambda_powertools import Metrics
    metrics = Metrics(namespace="VirtuousToken", service="planted")
    metrics.add_metric(name="Checked", unit="Count", value=1)
    metrics.add_metadata(key="note", value=f"sent {token}")
    metrics.flush_metrics()

def test_log_line_of_a_thread_in_the_background(token):
    import threading
    thread = threading.Thread(target=lambda: logging.getLogger("some.library").info("sent %s", token))
    thread.start()
    thread.join()

def test_a_comparison_of_secrets_that_fails(token):
    from virtuous_token.secret_text import SecretText
    one, other = SecretText(token), SecretText(token + "-other")
    assert one == other

def test_nothing(token, harness):
    logging.getLogger("some.library").error("sent planted-secret-2 of %s", "connection-id-4711")
    print("planted-secret-3")
    assert harness.watch({"outcome": "refreshed"})
"""


def test_a_leak_planted_in_any_channel_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_planted.py").write_text(PLANTED)
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml=report.xml", "-p", "no:cacheprovider", str(tmp_path)]
    path = [root, root / "functions/token_refresher", root / "layers/virtuous_token"]
    run = subprocess.run(
        [*command, "-o", f"pythonpath={' '.join(map(str, path))}", f"--rootdir={tmp_path}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output: dict[str, str] = {}
    for case in ET.parse(tmp_path / "report.xml").iter("testcase"):
        verdicts = [f"{part.get('message')} {part.text}" for part in case if part.tag in ("failure", "error")]
        output[case.get("name", "")] = output.get(case.get("name", ""), "") + "".join(verdicts)
    assert len(output) == 19, run.stdout
    unseen = {name for name, verdict in output.items() if "A secret became visible" not in verdict}
    assert unseen == {"test_nothing", "test_a_comparison_of_secrets_that_fails"}, run.stdout
    assert "SecretText(***) == SecretText(***)" in output["test_a_comparison_of_secrets_that_fails"]
    assert output["test_nothing"] == ""


@pytest.mark.parametrize(
    "leaked",
    [
        pytest.param(SECRET, id="as it is"),
        pytest.param(quote_plus(SECRET), id="in a form"),
        pytest.param(
            re.sub("%..", lambda digits: digits[0].lower(), quote_plus(SECRET)), id="in a form with small digits"
        ),
        pytest.param(json.dumps({"token": SECRET}), id="in JSON"),
        pytest.param(json.dumps({"token": SECRET}, ensure_ascii=False), id="in JSON as UTF-8"),
        pytest.param(json.dumps(json.dumps({"token": SECRET})), id="in JSON in JSON"),
        pytest.param(repr([SECRET]), id="in a repr"),
        pytest.param(repr(SECRET.encode()), id="in a repr of bytes"),
        pytest.param(base64.b64encode(SECRET.encode()).decode(), id="in base64"),
        pytest.param(base64.b64encode(f"u:{SECRET}:x".encode()).decode(), id="in base64 after two characters"),
        pytest.param(base64.b64encode(f"u{SECRET}".encode()).decode(), id="in base64 after one character"),
        pytest.param(base64.urlsafe_b64encode(SECRET.encode()).decode(), id="in base64 for addresses"),
    ],
)
def test_a_secret_is_found_in_every_form(leaked: str) -> None:
    watcher = LeakHarness()
    watcher.secret(SECRET)
    assert watcher.leaks() == []
    watcher.records.append(logging.makeLogRecord({"name": "a.library", "msg": f"it sent {leaked}."}))
    found = watcher.leaks()
    assert found
    assert not any(SECRET in line or leaked in line for line in found), "the finding must not show the secret"


def test_a_short_text_is_not_looked_for() -> None:
    watcher = LeakHarness()
    watcher.secret("12345")
    watcher.watch("it took 12345 seconds")
    assert watcher.leaks() == []


def test_the_secrets_of_a_closed_stand_in_stay_known(harness: LeakHarness) -> None:
    with Virtuous() as virtuous:
        virtuous.issue_pair()
    assert virtuous.secrets() <= harness.known_secrets()


def test_a_logger_is_left_as_it_was() -> None:
    before = logging.getLogRecordFactory(), logging.getLogger().level, logging.getLogger("botocore").level
    with LeakHarness().listening():
        logging.getLogger("botocore").setLevel(logging.ERROR)
        logging.getLogger().setLevel(logging.ERROR)
    after = logging.getLogRecordFactory(), logging.getLogger().level, logging.getLogger("botocore").level
    assert after == before


def test_a_quiet_test_costs_less_than_a_millisecond() -> None:
    best = 1.0
    for _ in range(20):
        started = time.perf_counter()
        watcher = LeakHarness()
        with watcher.listening():
            watcher.secret(SECRET)
        assert watcher.leaks() == []
        best = min(best, time.perf_counter() - started)
    assert best < 0.001
