"""Every scenario of this folder, with one bucket and with eight."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from ni.embedded import EmbeddedValkey
from tests.scenarios.script import CORE_VERBS, NI_VERBS, OPTIONS, VERBS, ScriptError, parse
from tests.scenarios.stage import Stage, facts, open_stage
from tests.support.databases import Databases

FOLDER: Final = Path(__file__).parent
PAGE: Final = FOLDER.parents[1] / "docs" / "how-to" / "write-a-scenario.md"
SCENARIOS: Final = sorted(FOLDER.glob("*.txt"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[1, 8], ids="buckets-{}".format)
async def stage(
    request: pytest.FixtureRequest,
    databases: Databases,
    valkey: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    """The API that all scenarios of one number of buckets are played on."""
    home = tmp_path_factory.mktemp("scenarios")
    with databases.fresh(request.param) as database:
        async with open_stage(database, valkey.url, home) as made:
            yield made


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
async def test_scenario(stage: Stage, path: Path) -> None:
    await stage.play(parse(path))


@pytest.mark.asyncio(loop_scope="module")
async def test_the_example_of_the_documents(stage: Stage, tmp_path: Path) -> None:
    script = tmp_path / "example.txt"
    script.write_text(PAGE.read_text().partition("```text\n")[2].partition("```")[0])
    scenario = parse(script)
    assert scenario.steps
    await stage.play(scenario)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("fact", ["available 50.00", "sequence 1", "posting status pending"])
async def test_a_wrong_answer_is_noticed(stage: Stage, tmp_path: Path, fact: str) -> None:
    true = (FOLDER / "day_of_product.txt").read_text()
    assert fact in true
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(true.replace(fact, f"{fact}9", 1))
    with pytest.raises(AssertionError, match=f"{fact}9"):
        await stage.play(parse(wrong))


def test_the_documents_name_every_word() -> None:
    page = " ".join(PAGE.read_text().split())
    words = {*VERBS, *CORE_VERBS, *NI_VERBS, *(" ".join(option) for option in OPTIONS)}
    assert [word for word in words if word not in page] == []
    assert [name for name in facts({}) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("10:00 cash debits A -> B 1.00 CZK packet p => approved", "cash cannot 'debits'"),
        ("10:00 cash debit A -> B 1.00 CZK => approved", "'packet' is expected"),
        ("10:00 cash debit A -> B 1.00 CZK packet p", "has an answer"),
        ("10:00 core closes A => approved", "has none"),
        ("10:00 cash balance A => approved, 5.00", "not a name and a value"),
        ("10:00 cash balance A quickly => approved", "'quickly' is not understood"),
        ("10:00 ni unloads straight through => approved", "has none"),
        ("10:00 operator close A => approved", "'the' is expected"),
        ("25:00 cash balance A => approved", "hour"),
        ("acount A customer CZK", "'account' is expected"),
    ],
)
def test_a_line_that_cannot_be_read_is_told(tmp_path: Path, line: str, complaint: str) -> None:
    script = tmp_path / "wrong.txt"
    script.write_text(f"account A customer CZK\n{line}\n")
    with pytest.raises(ScriptError, match=f"line 2: .*{complaint}"):
        parse(script)
