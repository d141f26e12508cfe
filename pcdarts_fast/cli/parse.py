"""The arguments of a command: help that fits a screen, and mistakes as one sentence."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import field, fields, make_dataclass
from textwrap import dedent, indent
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from ..errors import UserError

T = TypeVar("T")


def parse(
    kind: type[T],
    args: Sequence[str],
    *,
    examples: str,
    default: T | None = None,
    most_used: Mapping[str, str] | None = None,
) -> T:
    """The options of `pcdarts NAME` from its arguments; `kind` is its dataclass, named after it.

    `default` holds other defaults than the class. With `most_used`, `--help` shows these options
    (also those of the field `config`) with a text that fits a line, and `--help-all` every one with
    all that is to be said; without it there is no need.

    Raises:
        UserError: arguments that are no options of `kind`, or values that it does not take.
    """
    name = kind.__name__.lower()
    if most_used is not None:
        examples += f"\npcdarts {name} --help-all   lists every option"
    about = f"{kind.__doc__}\n\nexamples:\n{indent(examples, '  ')}"
    rest = list(args)
    shown: type[Any] = kind
    if "--help-all" in rest:
        rest = ["--help"]
    elif most_used is not None and {"-h", "--help"} & set(rest):
        shown, default, rest = _shortened(kind, default, most_used), None, ["--help"]
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            parsed: T = tyro.cli(
                shown,
                prog=f"pcdarts {name}",
                description=about,
                args=rest,
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        option = "--help-all" if most_used is not None else "--help"
        raise UserError(
            f"{_sentence(errors.getvalue())}; `pcdarts {name} {option}` lists the options"
        ) from None
    print(errors.getvalue(), end="", file=sys.stderr)  # which is None where it was closed
    return parsed


def _shortened(kind: type[Any], default: Any, most_used: Mapping[str, str]) -> type[Any]:
    """A flat class of the most used options, with these help texts and with `default`'s values."""
    config = default.config
    values = {
        f.name: (get_type_hints(type(config), include_extras=True)[f.name], getattr(config, f.name))
        for f in fields(config)
    }
    hints = get_type_hints(kind, include_extras=True)
    annotated: Any = Annotated
    values |= {f.name: (hints[f.name], getattr(default, f.name)) for f in fields(kind)}
    members = []
    for name, (hint, value) in values.items():
        told = tyro.conf.arg(help=most_used[name]) if name in most_used else tyro.conf.Suppress
        members.append((name, annotated[hint, told], field(default=value)))
    return make_dataclass(kind.__name__, members, bases=(kind, type(config)), frozen=True)


def _sentence(printed: str) -> str:
    """What tyro prints into a frame, as one sentence."""
    said = _paragraphs(printed)
    if not said:
        return "the arguments cannot be used"
    what = " ".join(line.strip() for line in said[0]).rstrip(".")
    # Below a heading stand names, indented once, and what they mean, indented twice.
    names = {
        lines[0]: [line.strip() for line in lines[1:] if re.match(r" {4}\S", line)]
        for lines in said
    }
    if what.startswith("Missing from"):
        return f"missing: {' and '.join(names[said[0][0]])}"
    if failed := re.match(r"Error parsing (-\S+): .*?'([^']*)'", what):
        usage = names.get("Argument helptext:", [failed[1]])[0]
        return f"{failed[1]} cannot be {failed[2]!r}, wanted {usage}"
    if wrong := re.match(r"invalid choice '(.*)' for argument '(\S+)'\. Expected .*\((.*)\)", what):
        choices = wrong[3].replace("'", "")
        return f"{wrong[2]} cannot be {wrong[1]!r}, wanted one of {choices}"
    if empty := re.match(r"Missing value for argument '(\S+)'", what):
        return f"{empty[1]} needs a value"
    if close := names.get("Perhaps you meant:"):
        return f"{what} (did you mean {close[0].split()[0]}?)"
    return re.sub(r"^Error parsing \w+: ", "", what)


def _paragraphs(printed: str) -> list[list[str]]:
    """The lines between the rules of tyro's frame; its heading stands in the frame or above it."""
    framed = printed.lstrip().startswith("╭")
    paragraphs: list[list[str]] = [[]]
    for line in printed.splitlines():
        if line.startswith(("╭", "╰")) or not line.strip("│─- "):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line.strip("│").rstrip())
    said = [dedent("\n".join(lines)).splitlines() for lines in paragraphs if lines]
    return said if framed else said[1:]
