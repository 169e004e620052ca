"""What the function's start costs beyond what boto3 costs anyway: ``python -m tests.campaigns.start_up``.

Both programs run in processes of their own, in turn, so that whatever else the machine does meets both alike. Counted
is processor time, which waiting for a busy machine does not add to, and of every pair the ratio.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[2]
PAIRS = 21
LIMIT = 1.10
MEGABYTES = 128  # of the 1,024 that template.yaml gives the function

# A process of Lambda is ready then and killed one day: what an interpreter tidies up at its end is no part of a start.
READY = "import os; os._exit(0)"
BOTO3 = f"import boto3; boto3.client('secretsmanager'); {READY}"
HANDLER = f"from token_refresher import handler; handler.application(); {READY}"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": f"{REPOSITORY}/functions/token_refresher:{REPOSITORY}/layers/virtuous_token",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "POWERTOOLS_SERVICE_NAME": "benchmark",
    "POWERTOOLS_METRICS_NAMESPACE": "VirtuousToken",
    "SECRET_PREFIX": "virtuous",
}


def main() -> int:
    """Exit status: 0 the promise holds, 1 it does not."""
    for program in (BOTO3, HANDLER):
        _run(program)  # bytecode and file caches
    seconds: dict[str, list[float]] = {BOTO3: [], HANDLER: []}
    megabytes = 0.0
    for number in range(PAIRS):  # who goes first alternates, since the second finds the caches warmer
        for program in (BOTO3, HANDLER) if number % 2 else (HANDLER, BOTO3):
            took, held = _run(program)
            seconds[program].append(took)
            megabytes = max(megabytes, held)
    ratios = sorted(ours / theirs for theirs, ours in zip(seconds[BOTO3], seconds[HANDLER], strict=True))
    ratio = median(ratios)
    print(f"Process start, medians of {PAIRS} pairs on Python {sys.version.split()[0]}, processor time")
    print(f"  boto3 and a Secrets Manager client  {median(seconds[BOTO3]) * 1000:5.0f} ms")
    print(f"  the handler, settings and client    {median(seconds[HANDLER]) * 1000:5.0f} ms")
    print(f"  ratio {ratio:.3f}, at most {LIMIT}; the middle half of the pairs lies between ", end="")
    print(f"{ratios[PAIRS // 4]:.3f} and {ratios[-PAIRS // 4]:.3f}")
    print(f"  peak memory {megabytes:.0f} MB, at most {MEGABYTES} MB")
    return 0 if ratio <= LIMIT and megabytes <= MEGABYTES else 1


def _run(program: str) -> tuple[float, float]:
    """What a process took: processor time in seconds, and the most memory that it held in megabytes."""
    process = subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    in_a_megabyte = 1024 * 1024 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / in_a_megabyte


if __name__ == "__main__":
    sys.exit(main())
