"""The environment, read once into a typed value."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from .virtuous.address import parse_base_url, parse_proxy


class InvalidSettings(ValueError):
    """The environment is wrong; the text lists everything that is."""


class Settings(NamedTuple):
    """What the deployment decided. ``schedule_interval`` is None where the schedule is not a plain rate."""

    secret_prefix: str
    virtuous_base_url: str
    refresh_at_percent: int = 50
    kms_key_arn: str | None = None
    schedule: str = ""
    schedule_interval: timedelta | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises InvalidSettings, whose text lists everything that is wrong."""
        wrong: list[str] = []
        prefix = environment.get("SECRET_PREFIX", "virtuous")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+=.@-]*(/[A-Za-z0-9_+=.@-]+)*", prefix):
            wrong.append("SECRET_PREFIX must be letters, digits and _+=.@- in parts that a slash separates")
        base_url = environment.get("VIRTUOUS_BASE_URL", "https://api.virtuoussoftware.com").rstrip("/")
        try:
            parse_base_url(base_url)
        except ValueError as error:
            wrong.append(f"VIRTUOUS_BASE_URL: {error}")
        percent = environment.get("REFRESH_AT_PERCENT", "50")
        if not re.fullmatch("[1-7][0-9]|80", percent):
            wrong.append("REFRESH_AT_PERCENT must be a whole number from 10 to 80")
        kms_key_arn = environment.get("KMS_KEY_ARN") or None
        if kms_key_arn and not re.fullmatch(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+", kms_key_arn):
            wrong.append("KMS_KEY_ARN must be the ARN of a KMS key, or absent")
        wrong += _wrong_on_the_way(environment)
        if wrong:
            raise InvalidSettings("; ".join(wrong))
        schedule = environment.get("SCHEDULE_EXPRESSION", "")
        rate = re.fullmatch(r"rate\(([0-9]{1,6}) (minute|hour|day)s?\)", schedule)
        interval = timedelta(**{f"{rate[2]}s": int(rate[1])}) if rate else None
        return cls(prefix, base_url, int(percent), kms_key_arn, schedule, interval)


def _wrong_on_the_way(environment: Mapping[str, str]) -> list[str]:
    """The proxy and the file of trusted roots, which the connection takes from the environment itself."""
    wrong = []
    try:
        if proxy := environment.get("https_proxy", environment.get("HTTPS_PROXY")):
            parse_proxy(proxy)
    except ValueError as error:
        wrong.append(str(error))
    try:
        if roots := environment.get("SSL_CERT_FILE"):
            ssl.create_default_context(cafile=roots)
    except OSError:  # ssl.SSLError is one
        wrong.append("SSL_CERT_FILE must name a file of certificates in PEM, or be absent")
    return wrong
