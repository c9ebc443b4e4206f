"""Checks the ledger without trusting whoever wrote it: every id is hashed again, every reference followed."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from store.ids import content_hash
from store.ledger import Ledger
from store.rows import derived, fetch_rows, from_row
from store.support import Evidence
from store.types import (
    FACTS,
    Conclusion,
    Experiment,
    Explanation,
    Fact,
    Hypothesis,
    Investigation,
    Judgement,
    LLMCall,
    Prediction,
    Problem,
    Review,
    Score,
    ToolOffer,
    ToolUse,
)

BATCH_ROWS = 2000
REFERENCES: tuple[tuple[type[Fact], str, type[Fact]], ...] = (
    (Hypothesis, "refines", Hypothesis),
    (Prediction, "hypothesis", Hypothesis),
    (Experiment, "prediction", Prediction),
    (Explanation, "experiment", Experiment),
    (Score, "explanation", Explanation),
    (Score, "experiment", Experiment),
    (Review, "explanation", Explanation),
    (Review, "rewrite", Explanation),
    (Hypothesis, "investigation", Investigation),
    (Judgement, "prediction", Prediction),
    (Judgement, "experiment", Experiment),
    (ToolOffer, "investigation", Investigation),
    (ToolOffer, "call", LLMCall),
    (ToolUse, "investigation", Investigation),
    (ToolUse, "experiment", Experiment),
    (Conclusion, "investigation", Investigation),
)


def verify(ledger: Ledger) -> list[Problem]:
    """Every row whose id or key does not fit its content, that is there twice, or that points at nothing; and every
    table that has lost the triggers which keep it append-only. An empty list means that the ledger is sound.
    """
    problems = []
    for noun in FACTS:
        for row in _rows(ledger, noun):
            if what := _fault(noun, row):
                problems.append(Problem(where=f"{noun.table}/{row['id']}", what=what))
    return (
        problems + _repeated(ledger) + _dangling(ledger) + _misjudged(ledger) + _miscited(ledger) + _unguarded(ledger)
    )


def _rows(ledger: Ledger, noun: type[Fact]) -> Iterator[dict[str, Any]]:
    """All rows of a table, a batch at a time, so that writers get their turn in between."""
    after = -1
    while True:
        with ledger.store.read() as connection:
            batch = fetch_rows(
                connection.execute(
                    f"SELECT rowid AS place, * FROM {noun.table} WHERE rowid > ? ORDER BY rowid LIMIT ?",
                    [after, BATCH_ROWS],
                )
            )
        for row in batch:
            after = row.pop("place")
            yield row
        if len(batch) < BATCH_ROWS:
            return


def _fault(noun: type[Fact], row: dict[str, Any]) -> str | None:
    try:
        fact = from_row(noun, row)
    except ValidationError as error:
        return f"is not a valid {noun.__name__}: {error.errors()[0]['msg']}"
    for column in derived(noun):
        if getattr(fact, column) != row[column]:
            return f"was altered: its content gives the {column} {getattr(fact, column)}, not {row[column]}"
    if isinstance(fact, LLMCall) and fact.request != content_hash([fact.model, fact.parameters, fact.messages]):
        return "names another request than its model, parameters and messages give"
    return None


def _repeated(ledger: Ledger) -> list[Problem]:
    problems = []
    for noun in FACTS:
        with ledger.store.read() as connection:
            query = f"SELECT id, count(*) FROM {noun.table} GROUP BY id HAVING count(*) > 1 ORDER BY id"
            found = connection.execute(query).fetchall()
        problems += [Problem(where=f"{noun.table}/{id}", what=f"is there {count} times") for id, count in found]
    return problems


def _dangling(ledger: Ledger) -> list[Problem]:
    problems = []
    for noun, column, target in REFERENCES:
        with ledger.store.read() as connection:
            found = connection.execute(
                f'SELECT id, "{column}" FROM {noun.table} WHERE "{column}" IS NOT NULL '
                f'AND "{column}" NOT IN (SELECT id FROM {target.table}) ORDER BY id'
            ).fetchall()
        problems += [
            Problem(where=f"{noun.table}/{id}", what=f"names the {column} {name}, which is not in {target.table}")
            for id, name in found
        ]
    with ledger.store.read() as connection:
        calls = connection.execute(
            "SELECT id, call FROM (SELECT id, output->>'call' AS call FROM experiments UNION "
            "SELECT id, unnest(output->>'$.items[*].call') FROM experiments UNION "
            "SELECT id, unnest(output->>'$.items[*].floor_call') FROM experiments) "
            "WHERE call IS NOT NULL AND call NOT IN (SELECT id FROM llm_calls) ORDER BY id"
        ).fetchall()
    return problems + [
        Problem(where=f"experiments/{id}", what=f"names the call {call}, which is not in llm_calls")
        for id, call in calls
    ]


def _misjudged(ledger: Ledger) -> list[Problem]:
    """Judgements that their prediction and experiment do not bear out, or whose test ran before it was predicted."""
    predictions = {prediction.id: prediction for prediction in ledger.find(Prediction)}
    problems = []
    for judgement in ledger.find(Judgement):
        prediction, experiment = predictions.get(judgement.prediction), ledger.get(Experiment, judgement.experiment)
        if prediction is None or experiment is None:
            continue  # told by `_dangling`
        again, where = Judgement.of(prediction, experiment), f"judgements/{judgement.id}"
        if (judgement.held, judgement.value) != (again.held, again.value):
            problems.append(Problem(where=where, what=f"says held: {judgement.held}, its rows say {again.held}"))
        if (experiment.tool, experiment.input) != (prediction.tool, prediction.input):
            problems.append(Problem(where=where, what="judges a prediction by another test than it named"))
        if experiment.created_at < prediction.created_at:
            problems.append(Problem(where=where, what="judges a prediction that was registered after its test"))
    return problems


def _miscited(ledger: Ledger) -> list[Problem]:
    """Claims whose evidence does not bear them out."""
    problems = []
    for conclusion in ledger.find(Conclusion):
        evidence = Evidence.of(ledger, conclusion.investigation)
        for number, claim in enumerate(conclusion.claims, 1):
            problems += [
                Problem(where=f"conclusions/{conclusion.id}", what=f"claim {number}: {fault}")
                for fault in evidence.faults(claim)
            ]
    return problems


def _unguarded(ledger: Ledger) -> list[Problem]:
    with ledger.store.read() as connection:
        guarded = set(
            connection.execute(
                "SELECT table_name, event_manipulation FROM duckdb_triggers() WHERE database_name = current_database()"
            ).fetchall()
        )
    return [
        Problem(where=noun.table, what=f"has lost the trigger that refuses {event}")
        for noun in FACTS
        for event in ("UPDATE", "DELETE")
        if (noun.table, event) not in guarded
    ]
