"""docs/reference/cli.md has every command with its arguments and options."""

from __future__ import annotations

from collections.abc import Iterator

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from ni.cli import app
from tests.docs.pages import headings, page, rows, section


def commands(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, TyperCommand]]:
    """Every command below `command` with the words that call it."""
    if isinstance(command, TyperGroup):
        for name, part in command.commands.items():
            yield from commands(part, (*words, name))
    else:
        assert isinstance(command, TyperCommand)
        yield " ".join(words), command


def parameters(command: TyperCommand) -> list[list[str]]:
    """The rows of a command's table: what is written, and its default."""
    found = []
    for parameter in command.params:
        name = (parameter.name or "").upper()
        if isinstance(parameter, TyperOption):
            name = "/".join((*parameter.opts, *parameter.secondary_opts))
        else:
            assert isinstance(parameter, TyperArgument)
        default = "" if parameter.default is None else str(parameter.default)
        found.append([name, "required" if parameter.required else default])
    return found


def test_every_command_is_listed() -> None:
    text = page("reference/cli.md")
    known = dict(commands(get_command(app), ("ni",)))
    assert [heading for heading in headings(text) if heading.startswith("ni ")] == list(known)
    for words, command in known.items():
        found = rows(section(text, f"`{words}`"))
        assert [row[:2] for row in found] == parameters(command), words
        assert all(len(row[2].split()) > 1 for row in found), words
