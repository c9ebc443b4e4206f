"""Prompt templates: versioned Jinja files, rendered strictly into chat messages.

A file `templates/<name>.v<n>.md` holds messages, each opened by a line `--- system`, `--- user` or
`--- assistant`. A line `--- turns` stands for what was said before, the value `turns`. The source is split before it is
rendered, so no value can open a message of its own.
Released files are never edited: `templates/LOCK` holds their SHA-256, and a change is the next version. Those that
nothing asks by any more stay, since `glossator replay` compares a recorded call's template with its file: of the agent
these are investigate_hypothesise, investigate_predict, investigate_refine and investigate_conclude.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from store.errors import UserError

FOLDER = files("prompts") / "templates"
NAME = re.compile(r"(?P<name>[a-z0-9_]+)\.v(?P<version>[1-9]\d*)\.md")
OPENING = re.compile(r"^--- (system|user|assistant|turns)[ \t]*$", re.MULTILINE)

TURNS = "turns"

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


@dataclass(frozen=True)
class Template:
    """One released prompt. `hash` is the SHA-256 of its file (64 hex digits)."""

    name: str
    version: int
    source: str

    @property
    def id(self) -> str:
        return f"{self.name}.v{self.version}"

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def render(self, **values: Any) -> list[dict[str, str]]:
        """The chat messages, each `{"role", "content"}`. ValueError when a value is missing or unused.

        The value `turns` of a template that has a place for it is a list of pairs, what was asked and what was said.
        """
        wanted, messages = _compiled(self.source)
        if missing := wanted - values.keys():
            raise ValueError(f"template {self.id} needs a value for {', '.join(sorted(missing))}")
        if unused := values.keys() - wanted:
            raise ValueError(f"template {self.id} has no use for {', '.join(sorted(unused))}")
        found: list[dict[str, str]] = []
        for role, message in messages:
            if role == TURNS:
                for asked, said in values[TURNS]:
                    found += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            else:
                found.append({"role": role, "content": message.render(values).strip()})
        return found


@cache
def _compiled(source: str) -> tuple[set[str], list[tuple[str, Any]]]:
    """The names a template needs, and (role, compiled content) for each of its messages."""
    preamble, *parts = OPENING.split(source)
    if not parts or _environment.from_string(preamble).render().strip():
        raise ValueError("a template starts with a line '--- system', '--- user' or '--- assistant'")
    messages = [(role, content) for role, content in zip(parts[::2], parts[1::2], strict=True)]
    wanted = set().union(*(meta.find_undeclared_variables(_environment.parse(content)) for _, content in messages))
    wanted |= {role for role, _ in messages} & {TURNS}
    return wanted, [(role, _environment.from_string(content)) for role, content in messages]


def released() -> dict[str, list[int]]:
    """Template names with their versions, ascending."""
    found: dict[str, list[int]] = {}
    for file in FOLDER.iterdir():
        if match := NAME.fullmatch(file.name):
            found.setdefault(match["name"], []).append(int(match["version"]))
    return {name: sorted(versions) for name, versions in sorted(found.items())}


@cache
def load(name: str) -> Template:
    """The newest version of "name", or the one spelled "name.v2". UserError lists what there is."""
    base, _, wanted = name.partition(".v")
    versions = released().get(base)
    if versions is None:
        raise UserError(f"There is no prompt template {base!r}; there are {', '.join(released())}.")
    version = versions[-1] if not wanted else int(wanted) if wanted.isdigit() else None
    if version not in versions:
        raise UserError(f"Template {base} has no version {wanted!r}; it has {', '.join(map(str, versions))}.")
    source = (FOLDER / f"{base}.v{version}.md").read_bytes().decode()
    try:
        _compiled(source)
    except (TemplateSyntaxError, ValueError) as error:
        raise UserError(f"The template {base}.v{version} cannot be read: {error}.") from error
    return Template(base, version, source)
