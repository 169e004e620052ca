"""What ``virtuous-token check`` says of alarms, and of who hears them."""

from __future__ import annotations

from collections.abc import Iterator

from .check_connection import Line
from .stack import Stack

__all__ = ["alarm_lines"]


def alarm_lines(stack: Stack) -> Iterator[Line]:
    """Which ring, and whether somebody hears them."""
    pages = stack.aws.client("cloudwatch").get_paginator("describe_alarms")
    alarms = [
        alarm
        for page in pages.paginate(AlarmNamePrefix=f"{stack.function}-")
        for alarm in (*page.get("MetricAlarms", ()), *page.get("CompositeAlarms", ()))
    ]
    ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
    yield Line(
        "alarms",
        f"ringing: {', '.join(sorted(ringing))}" if ringing else f"{len(alarms)}, none rings",
        not ringing and bool(alarms),
        "docs/run-book.md has a section for each",
    )
    topics = {action for alarm in alarms for action in alarm["AlarmActions"] if ":sns:" in action}
    if not topics:
        run = "sam deploy --parameter-overrides AlarmEmail=you@example.org"
        yield Line("topic", "alarms and notices reach nobody", False, run)
    for topic in sorted(topics):
        yield _topic_line(stack, topic)


def _topic_line(stack: Stack, topic: str) -> Line:
    name = topic.rpartition(":")[2]
    pages = stack.aws.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
    pending = [found["Endpoint"] for found in subscriptions if not found["SubscriptionArn"].startswith("arn:")]
    if pending:
        return Line("topic", f"{name}: not confirmed by {', '.join(pending)}", False, "open the link in AWS's e-mail")
    return Line(
        "topic",
        f"{name} has {len(subscriptions)} confirmed subscription{'' if len(subscriptions) == 1 else 's'}"
        if subscriptions
        else f"nobody is subscribed to {name}",
        bool(subscriptions),
        f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.org",
    )
