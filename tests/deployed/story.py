"""What the product does for its users, step by step, on the local AWS and in a real account.

Each step returns in words what was seen; StepFailed says what was seen instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.deployed.world import SECONDS_FOR_A_ROLE, VERSION, Deployment, StepFailed
from tests.facts import refusal

# Lambda repeats a failed asynchronous invocation after one and after two minutes.
SECONDS_TO_HAND_OVER = 420.0
SECONDS_FOR_A_NOTICE = 120.0
SCHEDULE = "aws.scheduler"
NO_EVENT = {"connections": "not a list"}


def expect(holds: bool, expected: str, seen: object) -> None:
    """Raises StepFailed with both unless *holds*."""
    if not holds:
        raise StepFailed(f"expected: {expected}; seen: {seen}")


@dataclass(slots=True)
class Story:
    """One deployment's. *first* is what the reader's first call got and sent, *latest* its last."""

    world: Deployment
    first: tuple[int, str] = (0, "")
    latest: tuple[int, str] = (0, "")

    def log_in(self) -> str:
        """Also begins the run that fails: its repetitions take minutes."""
        payload = json.dumps(NO_EVENT).encode()
        self.world.client("lambda").invoke(FunctionName=self.world.function, InvocationType="Event", Payload=payload)
        self.world.log_in()
        self.world.say("The reader calls Virtuous")
        self.first = self.world.read_as_reader()
        expect(self.first[0] == 200, "200 for the reader", self.first[0])
        return f"virtuous-token login made the connection, and Virtuous answered 200 to the reader ({self.first[1]})"

    def be_refreshed(self) -> str:
        world = self.world
        world.say("Wait for the schedule to find the token due")
        world.wait(
            "a refresh by the schedule",
            lambda: [run for run in world.runs() if run.source == SCHEDULE and "refreshed" in run.outcomes.values()],
        )
        world.say("The reader calls Virtuous again, until it has the new token")
        self.latest = world.wait(
            "the reader to send a new token", lambda: None if (call := world.read_as_reader()) == self.first else call
        )
        expect(self.latest[0] == 200, "200 for the new token", self.latest[0])
        # A run that is under way writes one after the other.
        world.wait("the bearer to be the pair's", lambda: world.version("tokens") == world.version("bearer"), 30)
        return f"the schedule's run refreshed and published, and Virtuous answered 200 to the reader ({self.latest[1]})"

    def be_refused_the_pair(self) -> str:
        world = self.world
        world.say("The reader tries to read the pair secret")
        manager = world.client("secretsmanager", world.as_reader())

        def read(kind: str) -> str:
            return refusal(lambda: manager.get_secret_value(SecretId=world.secret(kind)))

        world.wait("the reader's policy", lambda: read("bearer") == "success", SECONDS_FOR_A_ROLE)
        refused = {kind: read(kind) for kind in ("tokens", "login")}
        expect(set(refused.values()) == {"AccessDeniedException"}, "AccessDeniedException for pair and login", refused)
        return "the readers' policy allows the bearer secret, and is denied pair and login"

    def run_twice_at_once(self) -> str:
        world = self.world
        world.log_in("twice")
        before = world.refusals()
        with world.answering_late(), ThreadPoolExecutor(2) as pool:
            for _ in range(3):  # until they meet: one that has to start first may come too late
                outcomes = sorted(pool.map(world.refresh, ["twice"] * 2))
                expect(world.refusals() == before, "no refresh token is sent that was spent", "one was")
                if outcomes.count("refreshed") == 1:
                    return f"of two runs at once one refreshed ({' and '.join(outcomes)}), and no spent token was sent"
        raise StepFailed(f"expected: one of two runs refreshes; seen: {outcomes}")

    def tell_a_person(self) -> str:
        """From a refused refresh token over event bus, rule and topic to whoever subscribed."""
        world = self.world
        world.log_in("refused")
        pair = world.client("secretsmanager").get_secret_value(SecretId=world.secret("tokens", "refused"))
        world.virtuous.revoke_refresh_token(json.loads(pair["SecretString"])["refresh_token"])
        message = self.subscribed(world.physical("AlarmTopic"))
        outcomes = [world.refresh("refused") for _ in range(2)]  # the second adds nothing
        expect(outcomes == ["login_required"] * 2, "login_required", outcomes)
        world.say("Wait for the notice")
        text = world.wait("the notice", message, SECONDS_FOR_A_NOTICE)
        run = f"Run: virtuous-token --prefix {world.prefix} login --connection refused"
        expect("connection refused" in text and run in text, f"the connection's name, and {run}", text)
        expect((again := message()) is None, "one notice", again)
        return "the stack's own rule and topic told whoever subscribed, by name and once, what to run"

    def subscribed(self, topic: str) -> Callable[[], str | None]:
        """Takes the next message of a queue that is subscribed to *topic*."""
        sqs, sns, name = self.world.client("sqs"), self.world.client("sns"), f"{self.world.prefix}-notices"
        arn = ":".join([*topic.split(":")[:-1], name]).replace(":sns:", ":sqs:")
        service = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        statement = service | {"Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": topic}}}
        policy = json.dumps(VERSION | {"Statement": [statement]})
        queue = sqs.create_queue(QueueName=name, Attributes={"Policy": policy}, tags=dict(self.world.tags))["QueueUrl"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

        def message() -> str | None:
            received = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
            for each in received:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
            return next((str(json.loads(each["Body"])["Message"]) for each in received), None)

        return message

    def hand_over_a_failed_run(self) -> str:
        """The run that failed while somebody logged in."""
        sqs, queue = self.world.client("sqs"), self.world.outputs()["FailedRunsQueueUrl"]
        self.world.say("Wait for the failed run at the queue of failures")

        def message() -> Any:
            (received,) = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0).get("Messages", [None])
            return received and json.loads(received["Body"])

        failed = self.world.wait("the failed run's message", message, SECONDS_TO_HAND_OVER)
        attempts = failed["requestContext"]["approximateInvokeCount"]
        expect((failed["requestPayload"], attempts) == (NO_EVENT, 3), "the event after three attempts", failed)
        return "an event that the function refuses was tried three times and handed over"


STEPS: Mapping[str, Callable[[Story], str]] = {
    "a person logs in, and a reader is accepted": Story.log_in,
    "two runs at once spend one refresh token": Story.run_twice_at_once,
    "a notice reaches a person by the stack's own topic": Story.tell_a_person,
    "the schedule refreshes by itself, and the reader follows": Story.be_refreshed,
    "a reader may read the bearer secret alone": Story.be_refused_the_pair,
    "a run that fails for good reaches the queue": Story.hand_over_a_failed_run,
}
