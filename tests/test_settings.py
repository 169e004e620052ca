"""The environment of the function, read once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes.relay import certificate
from token_refresher.settings import InvalidSettings, Settings

KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-4111-8111-111111111111"
VIRTUOUS = "https://api.virtuoussoftware.com"


def test_an_empty_environment_gives_the_defaults() -> None:
    """CloudFormation sets a variable whose parameter is empty to the empty text."""
    empty = dict.fromkeys(["KMS_KEY_ARN", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"], "")

    assert Settings.from_environment({}) == Settings.from_environment(empty) == Settings("virtuous", VIRTUOUS)


def test_every_setting_is_read() -> None:
    environment = {
        "SECRET_PREFIX": "crm/virtuous",
        "VIRTUOUS_BASE_URL": "http://127.0.0.1:8080",
        "REFRESH_AT_PERCENT": "33",
        "KMS_KEY_ARN": KEY,
        "SCHEDULE_EXPRESSION": "rate(6 hours)",
    }
    six_hours = Settings("crm/virtuous", "http://127.0.0.1:8080", 33, KEY, "rate(6 hours)", timedelta(hours=6))
    assert Settings.from_environment(environment) == six_hours


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("SECRET_PREFIX", prefix) for prefix in ("v", "virtuous", "crm/virtuous", "A.b_c+d=e@f-g", "9lives")],
        *[("REFRESH_AT_PERCENT", percent) for percent in ("10", "11", "50", "79", "80")],
        *[("VIRTUOUS_BASE_URL", url) for url in (VIRTUOUS, f"{VIRTUOUS}/", f"{VIRTUOUS}:8443")],
        *[("VIRTUOUS_BASE_URL", f"http://{host}:8080") for host in ("127.0.0.1", "localhost", "[::1]")],
        *[("KMS_KEY_ARN", KEY.replace(":aws:", f":{partition}:")) for partition in ("aws", "aws-cn", "aws-us-gov")],
    ],
)
def test_what_is_taken(name: str, value: str) -> None:
    """A base URL without the slash at its end; the rest as it is."""
    settings = Settings.from_environment({name: value})

    assert str(getattr(settings, name.lower())) == value.rstrip("/")


# Of each setting; "hunter2pass" and "proxy.test" must not be quoted.
WRONG: dict[str, tuple[str, ...]] = {
    "SECRET_PREFIX": ("", "/virtuous", "virtuous/", "a//b", "a b", "virtuous\n", "*", "!virtuous", "virtuös"),
    "REFRESH_AT_PERCENT": ("9", "81", "100", "050", "-50", "50.0", "", " 50", "half", "\u0665\u0660"),
    "VIRTUOUS_BASE_URL": (
        *("", "api.virtuoussoftware.com", "http://api.virtuoussoftware.com", "ftp://example.org", "file:///etc/hosts"),
        # What only looks like loopback
        *("http://127.0.0.1.example.org", "http://localhost.example.org", "http://127.0.0.1@example.org"),
        *("http://10.0.0.1", "https://me:hunter2pass@example.org", "https://@example.org", "https://"),
        *("https://example.org/api", "https://example.org?to=here", "https://example.org?", "https://example.org#"),
        *("https://example.org:port", "https://example.org:99999", "https://[::1", "https://.example.org"),
        *("https://exa mple.org", " https://example.org", "https://exam\nple.org", "https://example.org\n"),
        *(f"https://{'a' * 64}.example.org", "https://api.\x01.example.org"),
        "https://me:hunter2pass\u2100@example.org",  # a letter that becomes a slash
    ),
    "KMS_KEY_ARN": (
        *("alias/mine", "arn:aws:kms:us-east-1:123456789012:alias/mine", "11111111-1111-4111-8111-111111111111"),
        *(KEY + "\n", KEY.replace("123456789012", "12345")),
    ),
    "HTTPS_PROXY": (
        *("ftp://proxy.test", "socks5://proxy.test:1080", "https://hunter2pass@proxy.test:3128"),
        *("http://hunter2pass@proxy .test:3128", "http://hunter2pass@proxy..test:3128", "http://me:hunter2pass@"),
        *("http://hunter2pass@proxy.test:99999", "http://me:hunter2pass@proxy.test:many"),
        *("http://hunter2pass@proxy.test:3128/path", "http://me:hunter2pass/@proxy.test"),
        *("http://me:hunter2pass\u2100@proxy.test", "http://me:hunter2pass@proxy.test\n"),
    ),
    "SSL_CERT_FILE": ("/nowhere.pem", "/dev/null", "/"),
}


def _rejected(environment: dict[str, str]) -> str:
    with pytest.raises(InvalidSettings) as rejected:
        Settings.from_environment(environment)
    return str(rejected.value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_anything_else_is_rejected_by_its_name_alone(name: str, value: str) -> None:
    """What is right is not complained about, and nothing that may hold a password is quoted."""
    message = _rejected({"SECRET_PREFIX": "virtuous", name: value})

    assert [known for known in WRONG if known in message] == [name]
    assert not any(part in message for part in ("hunter2pass", "proxy.test"))
    if name == "HTTPS_PROXY":
        assert _rejected({"https_proxy": value}) == message


def test_one_error_lists_everything_that_is_wrong() -> None:
    message = _rejected({name: values[-1] for name, values in WRONG.items()})

    assert [name for name in WRONG if name not in message] == []


def test_the_interval_of_a_plain_rate() -> None:
    expressions = ("rate(1 minute)", "rate(2 days)", "cron(0 6 * * ? *)", "rate(soon)", "", f"rate({'9' * 30} days)")
    read = [Settings.from_environment({"SCHEDULE_EXPRESSION": text}).schedule_interval for text in expressions]
    assert read == [timedelta(minutes=1), timedelta(days=2), None, None, None, None]


def test_a_proxy_with_or_without_scheme_and_credentials_is_taken_and_a_file_of_roots(tmp_path: Path) -> None:
    certificate(tmp_path, "virtuous.test")
    roots = str(tmp_path / "certificate.pem")
    for proxy in ("proxy.test:3128", "http://proxy.test", "http://me:p%40ss@proxy.test:3129/", "http://[::1]:3128"):
        Settings.from_environment({"HTTPS_PROXY": proxy, "NO_PROXY": ".example.org", "SSL_CERT_FILE": roots})
