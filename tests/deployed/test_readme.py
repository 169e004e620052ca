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
from tests.deployed.world import READER_STACK, World, open_world
from tests.terminal import plain, typed_at_a_terminal

pytestmark = pytest.mark.deployed

FOLLOWED = ("Deploy", "Read the token", "When it fails", "Upgrade and remove")
SECONDS = 400.0
GIT = ("git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
NEWER = "9.9.9"
# More than "sam deploy --guided" asks; what is left over is read by nobody.
ENTERS = "\n" * 60


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the clone, with its blocks of shell commands by the sections that they are in."""

    text: str

    def blocks(self, section: str) -> list[str]:
        """The shell blocks of a section, in their order. AssertionError if it has none."""
        found = [block for of, block in self.all_blocks() if of == section]
        assert found, f"no commands under {section!r}"
        return found

    def all_blocks(self) -> list[tuple[str, str]]:
        found, title = [], ""
        # A comment in a block looks like a heading, so whole blocks are taken first.
        for part in re.finditer(r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]+)$", self.text, re.MULTILINE | re.DOTALL):
            kind, block, heading = part.groups()
            title = heading or title
            if kind == "sh":
                found.append((title, block))
        return found


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
        status, shown = typed_at_a_terminal(
            ["/usr/bin/env", "bash", "-c", script],
            answers,
            environment=self.environment(),
            directory=self.home,
            seconds=SECONDS,
        )
        (self.world.directory / f"readme-{name}.log").write_text(shown)
        assert status == 0, f"{name} ended with status {status}:\n{plain(shown)[-3000:]}"
        return plain(shown)

    def environment(self) -> dict[str, str]:
        """With the Region where README wants it."""
        inherited = {name: value for name, value in self.world.environment.items() if name != "AWS_REGION"}
        return inherited | {
            "HOME": str(self.home),
            "PATH": f"{self.home}/.local/bin{os.pathsep}{self.world.environment['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PYTHON": sys.executable,  # the local AWS runs functions with the Python of the tests
        }

    def changed_files(self) -> str:
        """What git says of the clone's tracked files, and of new ones that it does not ignore."""
        return git("status", "--porcelain", at=self.clone)


def git(*arguments: str, at: Path) -> str:
    done = subprocess.run([*GIT, *arguments], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout


def install_the_stand_in_for_pipx(home: Path) -> None:
    """Installs nothing: the command that it "installs" is the clone's own code. That the package installs, and what
    removing it leaves, is shown in tests/cli."""
    binaries = home / ".local" / "bin"
    binaries.mkdir(parents=True)
    sources = os.pathsep.join(
        f"$clone/{path}" for path in ("cli", "functions/token_refresher", "layers/virtuous_token")
    )
    pipx = binaries / "pipx"
    pipx.write_text(f"""#!/bin/sh
set -eu
case "$*" in
"install ./cli" | "install --force ./cli")
    clone=$PWD
    printf '%s\\n' '#!/bin/sh' "PYTHONPATH={sources} exec {sys.executable} -m virtuous_token_cli \\"\\$@\\"" \
        > {binaries}/virtuous-token
    chmod +x {binaries}/virtuous-token ;;
"uninstall virtuous-token-cli") rm {binaries}/virtuous-token ;;
*) echo "pipx $*: not in this story" >&2; exit 2 ;;
esac
""")
    pipx.chmod(0o755)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A repository to clone, with a branch that a clone follows."""
    origin = tmp_path / "origin"
    git("clone", "--quiet", str(REPOSITORY), str(origin), at=tmp_path)
    git("switch", "--quiet", "--force-create", "main", at=origin)
    return origin


def test_what_readme_says_works_from_a_clone_to_a_removal(story: Path, tmp_path: Path) -> None:
    if missing := [tool for tool in ("git", "aws", "jq") if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    home = tmp_path / "home"
    install_the_stand_in_for_pipx(home)
    page = Page((story / "README.md").read_text(encoding="utf-8"))
    with open_world(REPOSITORY / ".local" / "readme") as world:
        somebody = Somebody(world, home)
        deploys_and_reads(somebody, page, story)
        upgrades_and_removes(somebody, page, story)
        assert leftovers(world) == []


def test_every_command_of_readme_is_followed_or_needs_no_account() -> None:
    blocks = Page((REPOSITORY / "README.md").read_text(encoding="utf-8")).all_blocks()

    others = [
        line.split("#")[0].split()
        for section, block in blocks
        for line in block.splitlines()
        if section not in FOLLOWED
    ]
    assert {command for command, *_ in others} == {"make"}
    targets = re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert {target for _, target in others} <= set(targets)


def deploys_and_reads(somebody: Somebody, page: Page, origin: Path) -> None:
    world = somebody.world
    (deploy,) = page.blocks("Deploy")
    address = f"VirtuousBaseUrl={world.virtuous.base_url}"
    deploy = deploy.replace("ADDRESS-OF-THIS-REPOSITORY", str(origin))
    deploy = deploy.replace("AlarmEmail=team@example.org", f"AlarmEmail=team@example.org {address}")
    typed = [("E-mail:", world.virtuous.user), ("Password (not shown):", world.virtuous.password)]
    shown = somebody.follows("deploy", deploy, typed)
    promised = [line.removeprefix("# ") for line in deploy.splitlines() if line.startswith("# ")]
    assert [line for line in promised if line not in shown.splitlines()] == []
    (from_a_shell,) = page.blocks("Read the token")
    assert somebody.follows("read", from_a_shell).strip() in world.virtuous.live_access_tokens
    (looks,) = page.blocks("When it fails")
    checked = somebody.follows("looks", looks.replace("virtuous-token check ", "virtuous-token check || true "))
    wrong = [line.split()[1] for line in checked.splitlines() if line.startswith("WRONG")]
    assert wrong in ([], ["topic:"]), "only the subscription may wait, for somebody to confirm it"
    example = Page((somebody.clone / "examples" / "reader" / "README.md").read_text(encoding="utf-8"))
    ((_, block),) = example.all_blocks()
    block = block.replace("PythonRuntime=$runtime\n", f"PythonRuntime=$runtime {address}\n")
    assert '"status": 200' in somebody.follows("example", f"cd {somebody.clone}/examples/reader\n{block}\ncd ../..")
    assert somebody.changed_files() == ""


def upgrades_and_removes(somebody: Somebody, page: Page, origin: Path) -> None:
    # Enter at every question of SAM's other way deploys as well, and what it saves is kept by the upgrade.
    overrides = f"PythonRuntime=$runtime VirtuousBaseUrl={somebody.world.virtuous.base_url}"
    guided = somebody.follows(
        "guided", f"sam deploy --guided --parameter-overrides {overrides}", [("Stack Name", ENTERS)]
    )
    assert "Successfully created/updated stack" in guided or "No changes to deploy" in guided
    assert somebody.changed_files() == " M samconfig.toml\n"
    saved = (somebody.clone / "samconfig.toml").read_text(encoding="utf-8")

    (block,) = page.blocks("Upgrade and remove")
    upgrade, remove = block.split("# remove")
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


def leftovers(world: World) -> list[str]:
    """Stacks of ours that are still there, and secrets that are not marked for deletion."""
    stacks = world.client("cloudformation").describe_stacks()["Stacks"]
    secrets = world.client("secretsmanager").list_secrets()["SecretList"]
    names = [stack["StackName"] for stack in stacks if "virtuous" in stack["StackName"]]
    return names + [secret["Name"] for secret in secrets]
