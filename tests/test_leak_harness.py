"""The leak harness sees what it must: a leak planted in each channel and in each form fails a test."""

from __future__ import annotations

import base64
import json
import logging
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from tests.leak_harness import LeakHarness

SECRET = "s3cr€t/+ \"quoted\" 'ticked'\\"
ROOT = Path(__file__).parents[1]

PLANTED = """
import base64, logging, sys
import pytest
from aws_lambda_powertools import Metrics
from tests.fakes.virtuous import Virtuous
from virtuous_token.secret_text import SecretText

LOG, ISLAND = logging.getLogger("some.library"), logging.getLogger("some.island")
ISLAND.propagate = False

@pytest.fixture(autouse=True)
def token(harness):
    return harness.secret("planted-secret-1")

def an_error(**attributes):
    error = RuntimeError("it failed")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error

@pytest.fixture
def late_printer(token):
    yield
    print(token)

def test_output_of_a_fixture_that_ends(late_printer):
    pass
"""
LEAKS = {
    "log_argument_that_is_not_shown": 'LOG.info("sent %(name)s", {"name": "a token", "value": token})',
    "log_extra_field": 'LOG.info("sent", extra={"body": {"access_token": token}})',
    "log_of_a_logger_that_does_not_propagate": 'ISLAND.error("sent %s", token)',
    "log_of_an_error_whose_cause_tells": 'LOG.error("failed", exc_info=an_error(__cause__=ValueError(token)))',
    "standard_output": "print(token)",
    "standard_error": "print(token, file=sys.stderr)",
    "output_that_the_test_reads_itself": "print(token); assert capsys.readouterr().out",
    "base64_in_the_middle_of_more": 'print("Basic", base64.b64encode(f"user:{token}:more".encode()).decode())',
    "return_value": 'harness.watch({"checked": 1, "note": token})',
    "expected_error": "with pytest.raises(ValueError): raise ValueError(token)",
    "context_of_an_error": "with pytest.raises(RuntimeError): raise an_error(__context__=KeyError(token)) from None",
    "attribute_of_an_error": "with pytest.raises(RuntimeError): raise an_error(answer=token)",
    "secret_that_a_stand_in_issued": 'with Virtuous() as virtuous: print(virtuous.issue_pair()["refresh_token"])',
    "metric": 'metrics = Metrics(namespace="N", service="s"); metrics.add_metric("Checked", "Count", 1); '
    'metrics.add_metadata(key="note", value=token); metrics.flush_metrics()',
}
# pytest tells of a comparison that failed by the reprs of both sides; and what is looked for is a secret, not any text.
QUIET = {
    "comparison_of_secrets_that_fails": 'one, other = SecretText(token), SecretText("other"); assert one == other',
    "nothing": 'LOG.error("planted-secret-2"); print("planted-secret-3"); harness.watch({"outcome": "refreshed"})',
}


def test_a_leak_planted_in_any_channel_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    tests = [f"def test_{name}(token, harness, capsys):\n    {code}\n" for name, code in (LEAKS | QUIET).items()]
    (tmp_path / "test_planted.py").write_text("\n".join([PLANTED, *tests]))
    path = " ".join(str(ROOT / part) for part in ("", "functions/token_refresher", "layers/virtuous_token"))
    command = [sys.executable, "-m", "pytest", "--junitxml=report.xml", "-o", f"pythonpath={path}", "--rootdir=."]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    output: dict[str, str] = {}
    for case in ET.parse(tmp_path / "report.xml").iter("testcase"):
        verdicts = [f"{part.get('message')} {part.text}" for part in case if part.tag in ("failure", "error")]
        name = case.get("name", "").removeprefix("test_")
        output[name] = output.get(name, "") + "".join(verdicts)
    seen = {name for name, verdict in output.items() if "A secret became visible" in verdict}
    assert seen == LEAKS.keys() | {"output_of_a_fixture_that_ends"}, run.stdout
    assert "SecretText(***) == SecretText(***)" in output["comparison_of_secrets_that_fails"]
    assert output["nothing"] == ""


FORMS = {
    "as it is": SECRET,
    "in a form": quote_plus(SECRET),
    "in a form with small digits": re.sub("%..", lambda digits: digits[0].lower(), quote_plus(SECRET)),
    "in JSON": json.dumps({"token": SECRET}),
    "in JSON as UTF-8": json.dumps({"token": SECRET}, ensure_ascii=False),
    "in JSON in JSON": json.dumps(json.dumps({"token": SECRET})),
    "in a repr": repr([SECRET]),
    "in a repr of bytes": repr(SECRET.encode()),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in base64 after two characters": base64.b64encode(f"u:{SECRET}:x".encode()).decode(),
    "in base64 after one character": base64.b64encode(f"u{SECRET}".encode()).decode(),
    "in base64 for addresses": base64.urlsafe_b64encode(SECRET.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form_and_the_finding_does_not_show_it(form: str) -> None:
    watcher = LeakHarness()
    watcher.secret(SECRET)
    watcher.secret("12345")
    watcher.watch("it took 12345 seconds")  # too short to be looked for
    assert watcher.leaks() == []
    watcher.records.append(logging.makeLogRecord({"name": "a.library", "msg": f"it sent {FORMS[form]}."}))
    found = watcher.leaks()
    assert found
    assert not any(SECRET in line or FORMS[form] in line for line in found)


def test_a_logger_is_left_as_it_was() -> None:
    loggers = [logging.getLogger(), logging.getLogger("botocore")]
    before = logging.getLogRecordFactory(), [logger.level for logger in loggers]
    with LeakHarness().listening():
        for logger in loggers:
            logger.setLevel(logging.ERROR)
    assert (logging.getLogRecordFactory(), [logger.level for logger in loggers]) == before
