"""Plain tables for people: query results, settings, problems."""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.screen.console import emit
from agent.screen.show import ELLIPSIS, clean
from agent.settings import ROLES, Origin
from store.types import Problem

FORMATS = ("table", "json", "csv")
NARROWEST = 10  # cells of a column: where a terminal has fewer, rows are shown as records
LONGEST_CELL = 400  # characters of a record's field; --format json has it whole


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], format: str) -> None:
    """A query's result on stdout: a table, CSV with a heading, or a JSON list of objects."""
    if format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        for row in (columns, *rows):
            cells = [_csv(value) for value in row]
            writer.writerow([clean(c) if isinstance(c, str) else c for c in cells] if sys.stdout.isatty() else cells)
        return
    names = _distinct(columns)
    document = [dict(zip(names, map(_json, row), strict=True)) for row in rows]

    def render(console: Console) -> None:
        if len(columns) * NARROWEST > console.width:
            for row in rows:
                console.print(_record(columns, row))
        else:
            console.print(_table(columns, rows))
        console.print(Text(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}", "dim"))

    emit(document, format == "json", render)


def _distinct(columns: Sequence[str]) -> list[str]:
    """Names of columns, equal ones numbered: a, a_2."""
    names: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float | Decimal) for row in rows[:20])
        table.add_column(Text(clean(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value), "dim" if value is None else "") for value in row))
    return table


def _record(columns: Sequence[str], row: Sequence[Any]) -> Table:
    """One row of many columns, a line for each."""
    table = Table(box=None, show_header=False, pad_edge=False, caption="")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for column, value in zip(columns, row, strict=True):
        table.add_row(Text(clean(column)), Text(_shortened(_cell(value))))
    return table


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + ELLIPSIS


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list | tuple):
        return clean(json.dumps(_json(value), ensure_ascii=False))
    return clean(str(value))


def _csv(value: Any) -> Any:
    return json.dumps(_json(value), ensure_ascii=False) if isinstance(value, dict | list | tuple) else value


def _json(value: Any) -> Any:
    """`value` as JSON can carry it; what it cannot (infinities, exotic types) as text."""
    if isinstance(value, dict):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    return str(value)


def settings_table(origins: Sequence[Origin]) -> Table:
    """Settings with value, source and meaning; what a role's endpoint takes from `llm` is one line."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    for heading in ("value", "from", "meaning and unit"):
        table.add_column(heading, overflow="fold")
    for owner, group in groupby(origins, lambda origin: origin.name.rpartition(".")[0]):
        for origin in group:
            default = origin.source == "default"
            if default and owner in ROLES:
                continue
            value = Text("-" if origin.value is None else clean(str(origin.value)), "dim" if default else "bold")
            source = Text(origin.source, "dim" if default else "green")
            table.add_row(origin.name, value, source, Text(origin.description, "dim"))
        if owner in ROLES:
            meaning = f"the same settings for the {owner} alone, such as {owner}.model"
            table.add_row(f"{owner}.*", Text("(as llm)", "dim"), Text("default", "dim"), Text(meaning, "dim"))
    return table


def print_problems(problems: Sequence[Problem], as_json: bool) -> None:
    """What `verify` found, one problem a line."""

    def render(console: Console) -> None:
        for problem in problems:
            console.print(Text(clean(f"{problem.where} {problem.what}")), soft_wrap=True)
        console.print(f"{len(problems):,} problems." if problems else "Every hash and every reference holds.")

    emit({"problems": [problem.model_dump(mode="json") for problem in problems]}, as_json, render)
