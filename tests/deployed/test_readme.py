"""README's commands, taken from the page and followed in its order by somebody at a terminal.

A block of another section than those in FOLLOWED needs no account, and other tests run what it names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deployed.local_aws import REPOSITORY
from tests.deployed.world import READER_STACK, SOURCES, World, open_world
from tests.terminal import plain, typed_at_a_terminal

pytestmark = pytest.mark.deployed

FOLLOWED = ("Deploy", "Read the token", "When it fails", "Upgrade and remove")
GIT = ("git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
NEWER = "9.9.9"
# More than "sam deploy --guided" asks; what is left over is read by nobody.
ENTERS = "\n" * 60
# Installs nothing: the command that it "installs" is the clone's own code. That the package installs, and what removing
# it leaves, is shown in tests/cli.
PIPX = """#!/bin/sh
set -eu
command=$(dirname "$0")/virtuous-token
case "$*" in
"install ./cli" | "install --force ./cli")
    printf '%s\\n' '#!/bin/sh' "PYTHONPATH={sources} exec {python} -m virtuous_token_cli \\"\\$@\\"" >"$command"
    chmod +x "$command" ;;
"uninstall virtuous-token-cli") rm "$command" ;;
*) echo "pipx $*: not in this story" >&2; exit 2 ;;
esac
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Each block of shell commands with the section that it is in."""
    found, title = [], ""
    # A comment in a block looks like a heading, so whole blocks are taken first.
    parts = r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]+)$"
    for kind, block, heading in re.findall(parts, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        title = heading or title
        if kind == "sh":
            found.append((title, block))
    return found


def git(*arguments: str, at: Path) -> str:
    return subprocess.run([*GIT, *arguments], cwd=at, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, slots=True)
class Somebody:
    """A person with a terminal. Directory and variables last from one block to the next."""

    world: World
    home: Path

    @property
    def clone(self) -> Path:
        return self.home / "virtuous-token-refresher"

    def follows(self, name: str, block: str, answers: Sequence[tuple[str, str]] = ()) -> str:
        """What was shown. AssertionError where a command ended with another status than 0."""
        script = f"set -e -o pipefail\n. {self.home}/state\n{block}\n"
        script += f"{{ printf 'cd %q\\n' \"$PWD\"; declare -p runtime; }} > {self.home}/state\n"
        (self.home / "state").touch()
        environment = self.world.environment | {
            "HOME": str(self.home),
            "PATH": f"{self.home}/.local/bin{os.pathsep}{self.world.environment['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PYTHON": sys.executable,  # the local AWS runs functions with the Python of the tests
        }
        del environment["AWS_REGION"]  # README wants it as AWS_DEFAULT_REGION
        command = ["/usr/bin/env", "bash", "-c", script]
        status, shown = typed_at_a_terminal(command, answers, environment=environment, directory=self.home, seconds=400)
        (self.world.directory / f"readme-{name}.log").write_text(shown)
        assert status == 0, f"{name} ended with status {status}:\n{plain(shown)[-3000:]}"
        return plain(shown)


def test_what_readme_says_works_from_a_clone_to_a_removal(tmp_path: Path) -> None:
    if missing := [tool for tool in ("git", "aws", "jq") if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    origin, home = tmp_path / "origin", tmp_path / "home"
    git("clone", "--quiet", str(REPOSITORY), str(origin), at=tmp_path)
    git("switch", "--quiet", "--force-create", "main", at=origin)  # a clone follows a branch
    pipx = home / ".local" / "bin" / "pipx"
    pipx.parent.mkdir(parents=True)
    sources = os.pathsep.join(f"$PWD/{path}" for path in SOURCES)
    pipx.write_text(PIPX.format(sources=sources, python=sys.executable))
    pipx.chmod(0o755)
    with open_world(REPOSITORY / ".local" / "readme") as world:
        somebody = Somebody(world, home)
        deploys_and_reads(somebody, origin)
        upgrades_and_removes(somebody, origin)
        stacks = world.client("cloudformation").describe_stacks()["Stacks"]
        assert [stack["StackName"] for stack in stacks if "virtuous" in stack["StackName"]] == []
        assert world.client("secretsmanager").list_secrets()["SecretList"] == [], "all are marked for deletion"


def test_every_command_of_readme_is_followed_or_needs_no_account() -> None:
    found = blocks(REPOSITORY / "README.md")
    others = [block for section, block in found if section not in FOLLOWED]

    assert [section for section, _ in found if section in FOLLOWED] == list(FOLLOWED), "one block each"
    assert {line.split()[0] for block in others for line in block.splitlines()} == {"make"}


def deploys_and_reads(somebody: Somebody, origin: Path) -> None:
    world, page = somebody.world, dict(blocks(origin / "README.md"))
    address = f"VirtuousBaseUrl={world.virtuous.base_url}"
    deploy = page["Deploy"].replace("ADDRESS-OF-THIS-REPOSITORY", str(origin))
    deploy = deploy.replace("AlarmEmail=team@example.org", f"AlarmEmail=team@example.org {address}")
    typed = [("E-mail:", world.virtuous.user), ("Password (not shown):", world.virtuous.password)]
    shown = somebody.follows("deploy", deploy, typed)
    promised = [line.removeprefix("# ") for line in deploy.splitlines() if line.startswith("# ")]
    assert [line for line in promised if line not in shown.splitlines()] == []
    assert somebody.follows("read", page["Read the token"]).strip() in world.virtuous.live_access_tokens
    looks = page["When it fails"].replace("virtuous-token check ", "virtuous-token check || true ")
    wrong = [line.split()[1] for line in somebody.follows("looks", looks).splitlines() if line.startswith("WRONG")]
    assert wrong in ([], ["topic:"]), "only the subscription may wait, for somebody to confirm it"
    ((_, block),) = blocks(somebody.clone / "examples" / "reader" / "README.md")
    block = block.replace("PythonRuntime=$runtime\n", f"PythonRuntime=$runtime {address}\n")
    assert '"status": 200' in somebody.follows("example", f"cd {somebody.clone}/examples/reader\n{block}\ncd ../..")
    assert git("status", "--porcelain", at=somebody.clone) == ""


def upgrades_and_removes(somebody: Somebody, origin: Path) -> None:
    # Enter at every question of SAM's other way deploys as well, and what it saves is kept by the upgrade.
    overrides = f"PythonRuntime=$runtime VirtuousBaseUrl={somebody.world.virtuous.base_url}"
    guided = somebody.follows(
        "guided", f"sam deploy --guided --parameter-overrides {overrides}", [("Stack Name", ENTERS)]
    )
    assert "Successfully created/updated stack" in guided or "No changes to deploy" in guided
    assert git("status", "--porcelain", at=somebody.clone) == " M samconfig.toml\n"
    saved = (somebody.clone / "samconfig.toml").read_text(encoding="utf-8")

    upgrade, remove = dict(blocks(origin / "README.md"))["Upgrade and remove"].split("# remove")
    version = origin / "layers" / "virtuous_token" / "virtuous_token" / "__init__.py"
    version.write_text(re.sub(r'(__version__ = )"\S+"', rf'\1"{NEWER}"', version.read_text()))
    git("commit", "--quiet", "--all", "--message", "A newer version", at=origin)
    somebody.follows("upgrade", upgrade)
    report = somebody.follows("status", "virtuous-token status --json")
    assert f'"version": "{NEWER}"' in report
    assert somebody.world.virtuous.base_url in report, "a parameter that the command did not name is kept"
    assert somebody.world.read_as_reader()[0] == 200
    assert (somebody.clone / "samconfig.toml").read_text(encoding="utf-8") == saved

    somebody.world.delete(READER_STACK)
    somebody.follows("remove", f"#{remove}", [("for deletion in 30 days? [y/N]:", "y"), ("[y/N]:", "y\ny")])
