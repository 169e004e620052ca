"""``python -m proof`` on a local AWS that runs already: ``python -m tests.deployed.proof_on_local_aws run --yes``.

Function URLs are served by a bridge on loopback. What the local AWS lacks is named with the reason, so that the report
says it.
"""

from __future__ import annotations

import contextlib
import sys

import boto3

from proof.__main__ import main
from proof.run import Surroundings
from tests.deployed.function_url import function_url

NOT_TO_BE_HAD = {
    "metrics arrive": "the local AWS does not extract metrics from log lines",
    "an alarm rings and ends": "the local AWS does not count what a queue holds",
}


if __name__ == "__main__":
    with contextlib.ExitStack() as bridges:

        def reach(function_name: str, url: str) -> str:
            profile = sys.argv[sys.argv.index("--profile") + 1] if "--profile" in sys.argv else None
            client = boto3.Session(profile_name=profile).client("lambda")
            return bridges.enter_context(function_url(client, function_name))

        sys.exit(main(surroundings=Surroundings(reach, NOT_TO_BE_HAD, races=3)))
