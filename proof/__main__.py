"""``make prove`` and ``make prove-clean``: ``python -m proof run`` and ``python -m proof clean``.

Exit status: 0 all was shown and nothing is left; 1 not; 2 misused; 3 nothing failed, but some cannot be had here.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tests.deployed.local_aws import REPOSITORY

from .account import Account, AnotherAccount
from .cleanup import FAMILY, clean
from .run import AWS, Proof, Surroundings, new_prefix

__all__ = ["main"]

WHAT_IT_MAKES = """\
This makes, in account {account} and Region {region}, with names that begin with {prefix}:
  three CloudFormation stacks (a stand-in for Virtuous with a KMS key, the token refresher, a reader), a bucket, a
  queue, a role, and some secrets for questions to Secrets Manager.
It touches nothing else and removes all of it at the end; only the key waits seven days for its deletion, at no charge.
It costs about 10 cents (mostly requests and a share of the month's price of the key and the secrets), and takes about
half an hour."""
VIRTUOUS_WARNING = "--virtuous: it sends one made-up refresh token to Virtuous. It asks for no login."


def main(argv: Sequence[str] | None = None, surroundings: Surroundings = AWS) -> int:
    """Runs one command and returns its exit status."""
    try:
        chosen = _parser().parse_args(argv)
    except SystemExit as misused:
        return int(misused.code or 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        account = Account.of(chosen.profile, chosen.region)
        return _clean(account) if chosen.command == "clean" else _run(account, chosen, surroundings)
    except KeyboardInterrupt:
        print("Interrupted; what was made has been removed.", file=sys.stderr)
        return 130
    except AnotherAccount as error:
        print(error, file=sys.stderr)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        print(f"{error.operation_name} was refused ({code}): check the AWS credentials", file=sys.stderr)
    except BotoCoreError as error:
        print(f"AWS can't be used ({type(error).__name__}): check credentials and Region", file=sys.stderr)
    return 1


def _run(account: Account, chosen: argparse.Namespace, surroundings: Surroundings) -> int:
    prefix = new_prefix()
    print(WHAT_IT_MAKES.format(account=account.number, region=account.region, prefix=prefix))
    if chosen.virtuous:
        print(VIRTUOUS_WARNING)
    if not chosen.yes and input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        return 2
    began = time.monotonic()

    def say(step: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {step}", flush=True)

    directory = chosen.directory or REPOSITORY / ".proof" / prefix
    proof = Proof(account, surroundings, prefix, directory, say, virtuous=chosen.virtuous)
    try:
        proof.run()
    finally:
        print(f"Report: {proof.report()}")
    return proof.exit_status


def _clean(account: Account) -> int:
    left = clean(account, FAMILY, print)
    for name in left:
        print(f"Left: {name}", file=sys.stderr)
    print("Something is left." if left else "Nothing of a proof is left.")
    return 1 if left else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proof", description="Shows on a real AWS account what only one can."
    )
    account = argparse.ArgumentParser(add_help=False)
    account.add_argument("--profile", help="the AWS profile (default: as the AWS CLI chooses)")
    account.add_argument("--region", help="the AWS Region (default: as the AWS CLI chooses)")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", parents=[account], help="deploy, observe, remove, report")
    run.add_argument("--yes", action="store_true", help="do not ask before anything is made")
    run.add_argument("--directory", type=Path, help="where logs and report go")
    run.add_argument("--virtuous", action="store_true", help="also how Virtuous refuses a token")
    commands.add_parser("clean", parents=[account], help="remove what killed runs left")
    return parser


if __name__ == "__main__":
    sys.exit(main())
