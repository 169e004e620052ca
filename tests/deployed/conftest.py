"""One world for the whole session: starting it takes half a minute, so nothing may depend on having it alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.story import Story
from tests.deployed.world import World, open_world


@pytest.fixture(scope="session")
def empty_world() -> Iterator[World]:
    """Local AWS and the stand-in for Virtuous, perhaps with nothing deployed."""
    with open_world(REPOSITORY / ".local" / "test") as world:
        yield world


@pytest.fixture(scope="session")
def story(empty_world: World) -> Story:
    """Begun before the other tests, which fill the minute until the schedule fires."""
    empty_world.deploy()
    empty_world.deploy_reader()
    story = Story(empty_world)
    story.log_in()
    return story


@pytest.fixture(scope="session")
def deployed_world(empty_world: World, story: Story) -> World:
    """Both stacks deployed and somebody logged in, as by ``virtuous-token login``."""
    return empty_world
