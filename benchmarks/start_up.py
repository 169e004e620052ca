"""How much the function's start costs beyond what boto3 costs anyway: ``python -m benchmarks.start_up``.

Both programs run in processes of their own, one after the other and over again, so that whatever else the machine does
meets both alike. The handler's imports its module, reads the settings and makes the client; the other imports boto3 and
makes a Secrets Manager client. The promise is a ratio of at most 1.15.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[1]
PAIRS = 15
PROMISE = 1.15

BOTO3 = "import boto3; boto3.client('secretsmanager')"
HANDLER = "from token_refresher import handler; handler.application()"


def main() -> int:
    """Exit status: 0 the promise holds, 1 it does not."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(
            map(str, [REPOSITORY / "functions/token_refresher", REPOSITORY / "layers/virtuous_token"])
        ),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "POWERTOOLS_SERVICE_NAME": "benchmark",
        "POWERTOOLS_METRICS_NAMESPACE": "VirtuousToken",
        "SECRET_PREFIX": "virtuous",
    }
    for program in (BOTO3, HANDLER):
        _seconds(program, environment)  # bytecode and file caches
    pairs = [(_seconds(BOTO3, environment), _seconds(HANDLER, environment)) for _ in range(PAIRS)]
    ratio = median(handler / boto3 for boto3, handler in pairs)
    print(f"Process start, medians of {PAIRS} pairs on Python {sys.version.split()[0]}")
    print(f"  boto3 and a Secrets Manager client  {median(boto3 for boto3, _ in pairs) * 1000:5.0f} ms")
    print(f"  the handler, settings and client    {median(handler for _, handler in pairs) * 1000:5.0f} ms")
    print(f"  ratio {ratio:.3f}, promised at most {PROMISE}")
    return 0 if ratio <= PROMISE else 1


def _seconds(program: str, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)  # noqa: S603 (both are above)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
