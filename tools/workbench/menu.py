"""The menu as the tools' files state it: read, not imported, so that listing them loads no library."""

import ast
from pathlib import Path
from typing import NamedTuple

FAMILIES = ("lookup", "labelling", "steering", "patching", "probing", "elicitation", "organisms")
TOOLS = Path(__file__).parents[1]


class Entry(NamedTuple):
    """One line of the menu."""

    name: str
    family: str
    version: int
    doc: str  # its first line


def menu() -> list[Entry]:
    """Every function that carries `@tool(version=n)`, by name."""
    files = ((family, path) for family in FAMILIES for path in (TOOLS / family).glob("*.py"))
    return sorted(entry for family, path in files for entry in _stated(family, path))


def _stated(family: str, path: Path) -> list[Entry]:
    functions = (
        node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [
        Entry(function.name, family, version, (ast.get_docstring(function) or "").partition("\n")[0])
        for function in functions
        for version in _versions(function)
    ]


def _versions(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[int]:
    """The version in its decorator, if it is a tool."""
    return [
        ast.literal_eval(keyword.value)
        for call in function.decorator_list
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "tool"
        for keyword in call.keywords
        if keyword.arg == "version"
    ]
