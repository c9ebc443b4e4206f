"""Nouns to rows and back. A field of plain type is a column of that type, any other field a column of JSON."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import duckdb
import pyarrow as pa

from store.ids import canonical_json
from store.types import Experiment, Fact

F = TypeVar("F", bound=Fact)

PLAIN: dict[type, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),  # before int, which it is a kind of
    int: pa.int64(),
    float: pa.float64(),
    datetime: pa.timestamp("us"),
}


def _plain(annotation: Any) -> pa.DataType | None:
    """The column type of a plain field, optional or not; None for a field that is stored as JSON."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return _plain(members[0]) if len(members) == 1 else None
    if isinstance(annotation, type):
        return next((column for plain, column in PLAIN.items() if issubclass(annotation, plain)), None)
    return None


def derived(noun: type[Fact]) -> list[str]:
    """The columns that are computed from the fields."""
    return ["id", "key"] if noun is Experiment else ["id"]


def to_table(noun: type[Fact], facts: Sequence[Fact]) -> pa.Table:
    """`facts`, all of type `noun`, as an Arrow table with the columns of the noun's ledger table."""
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(fact, name) for fact in facts], pa.string()) for name in derived(noun)
    }
    plain = {name: _plain(field.annotation) for name, field in noun.model_fields.items()}
    as_json = {name for name, type_ in plain.items() if type_ is None}
    dumps = [fact.model_dump(mode="json", include=as_json) for fact in facts]
    for name, type_ in plain.items():
        if type_ is not None:
            columns[name] = pa.array([getattr(fact, name) for fact in facts], type_)
        else:
            texts = [None if dump[name] is None else canonical_json(dump[name]) for dump in dumps]
            columns[name] = pa.array(texts, pa.string())
    return pa.table(columns)


def fetch_rows(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of an executed query as dictionaries, columns of JSON decoded."""
    columns = [(name, str(type_) == "JSON") for name, type_, *_ in cursor.description or ()]
    return [
        {
            name: json.loads(value) if is_json and value is not None else value
            for (name, is_json), value in zip(columns, row, strict=True)
        }
        for row in cursor.fetchall()
    ]


def from_row(noun: type[F], row: Mapping[str, Any]) -> F:
    """The fact in a row of `fetch_rows`, derived columns left aside. Raises ValidationError when it is none."""
    return noun.model_validate({name: value for name, value in row.items() if name not in derived(noun)})
