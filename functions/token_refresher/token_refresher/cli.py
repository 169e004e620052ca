"""Door for the operator: ``virtuous-token login | refresh | status | check``.

Results go to standard output, talk to standard error. Exit status: 0 done, 1 failed, 2 misused.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from virtuous_token.contract import CONNECTION_NAME, Bearer, SecretNames, TokenPair
from virtuous_token.errors import UnreadableSecret
from virtuous_token.secret_text import SecretText

from .address import Address
from .answers import CodeNeeded, Granted, Proved
from .login import store_login
from .ports import RefreshError, World
from .refresh import REFRESH_TOKEN_LIFE, OutcomeWord
from .secret_store import SecretStore, make_client
from .token_endpoint import TokenEndpoint

__all__ = ["main", "run"]

DONE, FAILED = 0, 1  # and argparse's 2
GOOD = frozenset({OutcomeWord.FRESH, OutcomeWord.REFRESHED, OutcomeWord.RECOVERED})
# A refresh that holds the claim may take as long as an invocation of the function, five minutes.
PATIENCE = timedelta(minutes=7)


class CommandFailed(Exception):
    """The command could not do what it was asked; the text says why and what to do."""


def run() -> None:
    """The console script."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as misused:
        return int(misused.code or DONE)
    try:
        commands = {"login": _login, "refresh": _refresh, "status": _status, "check": _check}
        commands[arguments.command](arguments)
    except KeyboardInterrupt:
        return _fail("interrupted")
    except EOFError:
        return _fail("the input ended before everything was told")
    except (CommandFailed, RefreshError, UnreadableSecret, ValueError) as error:
        return _fail(str(error))
    except ClientError as error:
        return _fail(f"{error.operation_name} failed ({error.response['Error']['Code']})")
    except BotoCoreError as error:
        return _fail(f"AWS can't be used: {type(error).__name__}; check credentials and Region")
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="virtuous-token",
        description="Operates the Virtuous token refresher in the current AWS account and Region.",
    )
    parser.add_argument("--prefix", default="virtuous", help="the stack's Prefix parameter (default: %(default)s)")
    parser.add_argument(
        "--base-url",
        default="https://api.virtuoussoftware.com",
        type=_address,
        help="the stack's VirtuousBaseUrl parameter (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, told in (
        ("login", "log in to Virtuous, store the token pair and have the bearer token published"),
        ("refresh", "have the function refresh a connection now, whether it is due or not"),
        ("status", "show what a person may see of a connection"),
        ("check", "read the bearer token as a reader does and call Virtuous with it"),
    ):
        command = commands.add_parser(name, help=told, description=told)
        command.add_argument("--connection", default="default", type=_connection, help="default: %(default)s")
    return parser


def _connection(name: str) -> str:
    if not CONNECTION_NAME.fullmatch(name):
        raise argparse.ArgumentTypeError("lower-case letters, digits and hyphens only")
    return name


def _address(url: str) -> str:
    try:
        Address.parse(url)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return url.rstrip("/")


def _login(arguments: argparse.Namespace) -> None:
    store = _store(arguments)
    store.pair_labels()  # before anybody is asked for a password or sent a code
    world = World(TokenEndpoint(arguments.base_url, clock=_now), _now, time.sleep)
    answer = _ask_virtuous(world)
    for oddity in answer.oddities:
        _say(f"Noticed: {oddity}.")
    proof = world.endpoint.prove(answer.access_token) if answer.access_token else None
    organization = proof if isinstance(proof, Proved) else Proved()
    store_login(store, world, _pair(answer, organization), give_up_at=_now() + PATIENCE)
    _say(f"Stored the token pair of {organization.organization_name or 'an organisation that did not tell its name'}.")
    try:
        _run_function(arguments, force=False)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; the pair is stored, and the next scheduled run publishes it") from None


def _ask_virtuous(world: World) -> Granted:
    username = _ask("E-mail: ")
    password = SecretText(_ask("Password: ", hidden=True))
    answer = world.endpoint.log_in(username, password)
    if isinstance(answer, CodeNeeded):
        _say("Virtuous sent a one-time code to the user's phone.")
        answer = world.endpoint.log_in(username, password, SecretText(_ask("Code: ", hidden=True).strip()))
    if not isinstance(answer, Granted):
        raise CommandFailed(f"Virtuous gave no tokens: {type(answer).__name__} ({answer.reason})")
    return answer


def _pair(answer: Granted, organization: Proved) -> TokenPair:
    if answer.access_token is None:
        raise CommandFailed("Virtuous answered without a usable access token")
    return TokenPair(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        issued_at=answer.issued_at,
        expires_at=answer.expires_at,
        refresh_token_issued_at=answer.issued_at if answer.refresh_token else None,
        refresh_token_expires_at=answer.issued_at + REFRESH_TOKEN_LIFE if answer.refresh_token else None,
        user_name=answer.user_name,
        two_factor_enabled=answer.two_factor_enabled,
        organization_id=organization.organization_id,
        organization_name=organization.organization_name,
    )


def _refresh(arguments: argparse.Namespace) -> None:
    _run_function(arguments, force=True)


def _status(arguments: argparse.Namespace) -> None:
    _show(_invoke(arguments, {"connections": [arguments.connection], "report": True}))


def _check(arguments: argparse.Namespace) -> None:
    names = SecretNames.of(arguments.prefix, arguments.connection)
    answer = make_client().get_secret_value(SecretId=names.bearer, VersionStage="AWSCURRENT")
    bearer = Bearer.parse(answer.get("SecretString"))
    proof = TokenEndpoint(arguments.base_url, clock=_now).prove(bearer.access_token)
    if not isinstance(proof, Proved):
        raise CommandFailed(f"Virtuous does not accept the bearer token: {type(proof).__name__} ({proof.reason})")
    _show({"organization_id": proof.organization_id, "organization_name": proof.organization_name})


def _run_function(arguments: argparse.Namespace, *, force: bool) -> None:
    """Has the function look at the connection; whatever leaves readers without a current token is a failure."""
    event = {"connections": [arguments.connection], **({"force": True} if force else {})}
    answer = _invoke(arguments, event)
    _show(answer)
    outcome = answer.get("outcomes", {}).get(arguments.connection)
    if outcome not in GOOD:
        raise CommandFailed(f"{arguments.connection}: {outcome}; the README says what to do for it")


def _invoke(arguments: argparse.Namespace, event: dict[str, Any]) -> dict[str, Any]:
    """The function's answer. It alone refreshes: two places that spend a refresh token are one too many."""
    function = f"{arguments.prefix}-token-refresher"
    # The function may run for five minutes, and a second invocation would only be busy: wait, and do not retry.
    config = Config(read_timeout=320, retries={"total_max_attempts": 1})
    try:
        answer = boto3.client("lambda", config=config).invoke(FunctionName=function, Payload=json.dumps(event).encode())
    except ClientError as error:
        raise CommandFailed(f"{function} can't be invoked ({error.response['Error']['Code']})") from None
    except BotoCoreError as error:
        raise CommandFailed(f"{function} can't be invoked ({type(error).__name__})") from None
    payload: dict[str, Any] = json.loads(answer["Payload"].read() or b"null") or {}
    if "FunctionError" in answer:
        raise CommandFailed(f"{function} failed: {payload.get('errorMessage', 'see its log')}")
    return payload


def _store(arguments: argparse.Namespace) -> SecretStore:
    client = make_client()
    return SecretStore(client, SecretNames.of(arguments.prefix, arguments.connection))


def _ask(prompt: str, *, hidden: bool = False) -> str:
    """One line: from the terminal, a secret without echo; from standard input where that is not a terminal."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt, stream=sys.stderr) if hidden else _ask_aloud(prompt)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _ask_aloud(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    return input()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _show(told: dict[str, Any]) -> None:
    print(json.dumps(told, indent=2))


def _fail(text: str) -> int:
    _say(f"virtuous-token: {text}")
    return FAILED


def _now() -> datetime:
    return datetime.now(UTC)
