"""The environment of the function, read once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes.relay import certificate
from token_refresher.settings import InvalidSettings, Settings

KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-4111-8111-111111111111"


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings(
        secret_prefix="virtuous",
        virtuous_base_url="https://api.virtuoussoftware.com",
        refresh_at_percent=50,
        kms_key_arn=None,
        schedule_interval=None,
    )


def test_every_setting_is_read() -> None:
    environment = {
        "SECRET_PREFIX": "crm/virtuous",
        "VIRTUOUS_BASE_URL": "http://127.0.0.1:8080",
        "REFRESH_AT_PERCENT": "33",
        "KMS_KEY_ARN": KEY,
        "SCHEDULE_EXPRESSION": "rate(6 hours)",
        "PATH": "/usr/bin",
    }

    assert Settings.from_environment(environment) == Settings(
        secret_prefix="crm/virtuous",
        virtuous_base_url="http://127.0.0.1:8080",
        refresh_at_percent=33,
        kms_key_arn=KEY,
        schedule="rate(6 hours)",
        schedule_interval=timedelta(hours=6),
    )


def test_the_environment_of_the_template_without_a_key_is_accepted() -> None:
    """CloudFormation sets a variable whose parameter is empty to the empty text."""
    empty = dict.fromkeys(["KMS_KEY_ARN", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"], "")
    assert Settings.from_environment(empty).kms_key_arn is None


def _rejected(environment: dict[str, str]) -> str:
    with pytest.raises(InvalidSettings) as rejected:
        Settings.from_environment(environment)
    return str(rejected.value)


def test_one_error_lists_everything_that_is_wrong() -> None:
    wrong = {
        "SECRET_PREFIX": "/virtuous",
        "VIRTUOUS_BASE_URL": "http://api.virtuoussoftware.com",
        "REFRESH_AT_PERCENT": "0",
        "KMS_KEY_ARN": "alias/mine",
    }

    message = _rejected(wrong)

    assert all(name in message for name in wrong)


def test_what_is_right_is_not_complained_about() -> None:
    message = _rejected({"SECRET_PREFIX": "virtuous", "REFRESH_AT_PERCENT": "half"})

    assert "REFRESH_AT_PERCENT" in message
    assert not any(name in message for name in ("SECRET_PREFIX", "VIRTUOUS_BASE_URL", "KMS_KEY_ARN"))


@pytest.mark.parametrize("prefix", ["v", "virtuous", "crm/virtuous", "A.b_c+d=e@f-g", "9lives"])
def test_a_prefix_of_letters_digits_and_what_secrets_manager_allows(prefix: str) -> None:
    assert Settings.from_environment({"SECRET_PREFIX": prefix}).secret_prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param("", id="empty"),
        pytest.param("/virtuous", id="a slash in front"),
        pytest.param("virtuous/", id="a slash behind"),
        pytest.param("crm//virtuous", id="an empty part"),
        pytest.param("virtuous ", id="a space"),
        pytest.param("virtuous\n", id="a newline"),
        pytest.param("*", id="a wildcard"),
        pytest.param("!virtuous", id="a negated filter"),
        pytest.param("virtuös", id="a letter beyond ASCII"),
    ],
)
def test_a_prefix_that_names_no_secret_is_rejected(prefix: str) -> None:
    assert "SECRET_PREFIX" in _rejected({"SECRET_PREFIX": prefix})


@pytest.mark.parametrize("percent", [10, 11, 50, 79, 80])
def test_a_percentage_within_its_bounds(percent: int) -> None:
    assert Settings.from_environment({"REFRESH_AT_PERCENT": str(percent)}).refresh_at_percent == percent


@pytest.mark.parametrize(
    "percent", ["9", "81", "0", "-50", "100", "50.0", "5e1", "", " 50", "50%", "half", "\u0665\u0660"]
)
def test_any_other_percentage_is_rejected(percent: str) -> None:
    assert "10 to 80" in _rejected({"REFRESH_AT_PERCENT": percent})


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.virtuoussoftware.com", "https://api.virtuoussoftware.com"),
        ("https://api.virtuoussoftware.com/", "https://api.virtuoussoftware.com"),
        ("https://api.virtuoussoftware.com:8443", "https://api.virtuoussoftware.com:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_base_url_that_tokens_may_be_sent_to(url: str, kept: str) -> None:
    assert Settings.from_environment({"VIRTUOUS_BASE_URL": url}).virtuous_base_url == kept


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("api.virtuoussoftware.com", id="no scheme"),
        pytest.param("http://api.virtuoussoftware.com", id="plain http"),
        pytest.param("http://127.0.0.1.example.org", id="a host that only begins like loopback"),
        pytest.param("http://localhost.example.org", id="a host that only begins like localhost"),
        pytest.param("http://10.0.0.1", id="plain http in a private network"),
        pytest.param("http://127.0.0.1@example.org", id="loopback as the user of another host"),
        pytest.param("https://me:secret@example.org", id="a user and a password"),
        pytest.param("https://@example.org", id="an empty user"),
        pytest.param("https://example.org/api", id="a path"),
        pytest.param("https://example.org?to=here", id="a query"),
        pytest.param("https://example.org?", id="an empty query"),
        pytest.param("https://example.org#part", id="a fragment"),
        pytest.param("https://example.org#", id="an empty fragment"),
        pytest.param("https://", id="no host"),
        pytest.param("https://example.org:port", id="a port in words"),
        pytest.param("https://example.org:99999", id="a port beyond the last"),
        pytest.param("https://exa mple.org", id="a space within"),
        pytest.param(" https://example.org", id="a space in front"),
        pytest.param("https://exam\nple.org", id="a newline within"),
        pytest.param("https://example.org\n", id="a newline behind"),
        pytest.param("https://[::1", id="a bracket left open"),
        pytest.param("https://.example.org", id="an empty label"),
        pytest.param(f"https://{'a' * 64}.example.org", id="a label that is too long"),
        pytest.param("https://api.\x01.example.org", id="a control character"),
        pytest.param("https://me:secret\u2100@example.org", id="a letter that becomes a slash"),
        pytest.param("ftp://example.org", id="another scheme"),
        pytest.param("file:///etc/hosts", id="a file"),
    ],
)
def test_any_other_base_url_is_rejected(url: str) -> None:
    message = _rejected({"VIRTUOUS_BASE_URL": url})

    assert "VIRTUOUS_BASE_URL" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "arn",
    [
        pytest.param("alias/mine", id="an alias"),
        pytest.param("arn:aws:kms:us-east-1:123456789012:alias/mine", id="an alias as an ARN"),
        pytest.param("11111111-1111-4111-8111-111111111111", id="a bare key id"),
        pytest.param(KEY + "\n", id="a newline behind"),
        pytest.param(KEY.replace("123456789012", "12345"), id="a short account"),
    ],
)
def test_what_is_no_arn_of_a_key_is_rejected(arn: str) -> None:
    assert "KMS_KEY_ARN" in _rejected({"KMS_KEY_ARN": arn})


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_a_key_in_any_partition(partition: str) -> None:
    arn = KEY.replace("arn:aws:", f"arn:{partition}:")

    assert Settings.from_environment({"KMS_KEY_ARN": arn}).kms_key_arn == arn


@pytest.mark.parametrize(
    ("expression", "interval"),
    [
        ("rate(1 minute)", timedelta(minutes=1)),
        ("rate(90 minutes)", timedelta(minutes=90)),
        ("rate(1 hour)", timedelta(hours=1)),
        ("rate(2 days)", timedelta(days=2)),
        ("cron(0 6 * * ? *)", None),
        ("rate(soon)", None),
        ("", None),
        pytest.param("rate(" + "9" * 30 + " days)", None, id="a rate beyond any calendar"),
    ],
)
def test_the_interval_of_a_plain_rate(expression: str, interval: timedelta | None) -> None:
    assert Settings.from_environment({"SCHEDULE_EXPRESSION": expression}).schedule_interval == interval


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param("ftp://proxy.test", id="another scheme"),
        pytest.param("socks5://proxy.test:1080", id="SOCKS"),
        pytest.param("http://hunter2pass@proxy .test:3128", id="a blank"),
        pytest.param("http://hunter2pass@proxy..test:3128", id="an empty label"),
        pytest.param("http://hunter2pass@proxy.test:99999", id="a port beyond the last"),
        pytest.param("http://hunter2pass@proxy.test:3128/path", id="a path"),
        pytest.param("http://me:hunter2pass\u2100@proxy.test", id="a letter that becomes a slash"),
        pytest.param("http://me:hunter2pass@", id="no host"),
        pytest.param("http://me:hunter2pass@proxy.test:many", id="a port in words"),
        pytest.param("http://me:hunter2pass/@proxy.test", id="a slash in the password"),
        pytest.param("https://hunter2pass@proxy.test:3128", id="a proxy that is itself spoken to by TLS"),
        pytest.param("http://me:hunter2pass@proxy.test\n", id="a newline behind"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_and_not_quoted(name: str, proxy: str) -> None:
    message = _rejected({name: proxy})

    assert message.startswith("HTTPS_PROXY must be an http:// address")
    assert "hunter2pass" not in message
    assert "proxy.test" not in message


@pytest.mark.parametrize(
    "proxy", ["", "proxy.test:3128", "http://proxy.test", "http://me:p%40ss@proxy.test:3129/", "http://[::1]:3128"]
)
def test_a_proxy_with_or_without_scheme_and_credentials_is_taken(proxy: str) -> None:
    Settings.from_environment({"HTTPS_PROXY": proxy, "NO_PROXY": ".example.org"})


def test_a_file_of_roots_is_read(tmp_path: Path) -> None:
    certificate(tmp_path, "virtuous.test")

    Settings.from_environment({"SSL_CERT_FILE": str(tmp_path / "certificate.pem")})


@pytest.mark.parametrize("name", ["empty.pem", "missing.pem", "."])
def test_what_holds_no_roots_is_rejected(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()

    assert "SSL_CERT_FILE" in _rejected({"SSL_CERT_FILE": str(tmp_path / name)})


def test_settings_cannot_be_changed() -> None:
    settings = Settings.from_environment({})

    with pytest.raises(AttributeError):
        settings.refresh_at_percent = 99  # type: ignore[misc]
