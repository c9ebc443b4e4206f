"""Facts come out of the ledger as they went in, once each, all of a transaction or none."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import pytest

from store.errors import UserError
from store.group_commit import INTERVAL_S
from store.ledger import Ledger
from store.migrate import RECORD, load_scripts, view_names
from store.rows import PLAIN, derived, to_table
from store.types import FACTS, Experiment, Explanation, Hypothesis, Score
from store.verify import verify
from tests.store.examples import LATENT, every_noun, experiment, explanation, score


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "glossator.duckdb", timeout_s=10)
    yield ledger
    ledger.close()


def test_every_noun_comes_back_equal_with_the_same_id(ledger):
    facts = every_noun()
    assert {type(fact) for fact in facts} == set(FACTS)
    ledger.append(*facts)
    for fact in facts:
        found = ledger.get(type(fact), fact.id)
        assert found == fact
        assert found.id == fact.id


def test_the_tables_have_the_columns_of_the_nouns(ledger):
    ledger.append(*every_noun())
    arrow = {"string": {"VARCHAR", "JSON"}, "int64": {"BIGINT"}, "double": {"DOUBLE"}, "timestamp[us]": {"TIMESTAMP"}}
    arrow["bool"] = {"BOOLEAN"}
    assert {str(type_) for type_ in PLAIN.values()} == set(arrow)
    for noun in FACTS:
        schema = to_table(noun, []).schema
        _, rows = ledger.sql(f"SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = '{noun.table}'")
        assert set(schema.names) == set(noun.model_fields) | set(derived(noun)) == {name for name, _ in rows}
        for name, data_type in rows:
            assert data_type in arrow[str(schema.field(name).type)], (noun, name)


def test_a_time_with_a_zone_is_kept_in_utc(ledger):
    noon = datetime(2026, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    fact = Hypothesis(about="x", claim="y", created_at=noon)
    assert fact.created_at == datetime(2026, 6, 1, 10)
    assert fact.id == Hypothesis(about="x", claim="y", created_at=noon.astimezone(UTC)).id
    ledger.append(fact)
    assert ledger.get(Hypothesis, fact.id) == fact


def test_appending_again_changes_nothing(ledger):
    facts = every_noun()
    ledger.append(*facts)
    ledger.append(*facts, *facts)
    for noun in FACTS:
        assert len(ledger.find(noun)) == sum(type(fact) is noun for fact in facts)


def test_a_fact_whose_insert_fails_takes_its_transaction_with_it(ledger):
    good = Hypothesis(about="x", claim="y")
    bad = Experiment.model_construct(**{**dict(experiment()), "seconds": None})  # the column refuses NULL
    with pytest.raises(Exception, match="NOT NULL"):
        ledger.append(good, bad)
    assert ledger.find(Hypothesis) == []
    ledger.append(good)
    assert ledger.find(Hypothesis) == [good]


def test_find_filters_and_orders_by_time(ledger):
    times = [datetime(2026, 1, day) for day in (3, 1, 2)]
    facts = [Hypothesis(about="x", claim=str(moment), created_at=moment) for moment in times]
    ledger.append(*facts, Hypothesis(about="other", claim="z"))
    assert ledger.find(Hypothesis, about="x") == sorted(facts, key=lambda fact: fact.created_at)
    assert len(ledger.find(Hypothesis, refines=None)) == 4
    assert ledger.find(Hypothesis, about="nobody") == []
    with pytest.raises(ValueError, match="no column"):
        ledger.find(Hypothesis, colour="red")


def test_resolve_takes_a_prefix_of_any_id(ledger):
    facts = every_noun()
    ledger.append(*facts)
    for fact in facts:
        assert ledger.resolve(fact.id[:12]) == fact
    absent = "0000" if not any(fact.id.startswith("0000") for fact in facts) else "ffff"
    with pytest.raises(UserError, match="no row"):
        ledger.resolve(absent)
    for bad in ("", "xyz", "'; DROP TABLE scores; --", "ab"):
        with pytest.raises(UserError, match="is not an id"):
            ledger.resolve(bad)


def test_an_ambiguous_prefix_lists_the_candidates(ledger):
    facts = [Hypothesis(about="x", claim=str(n), created_at=datetime(2026, 1, 1)) for n in range(3000)]
    prefixes = [fact.id[:4] for fact in facts]
    shared = next(prefix for prefix in prefixes if prefixes.count(prefix) > 1)
    ledger.append(*facts)
    with pytest.raises(UserError, match=r"start of several ids: .*hypotheses"):
        ledger.resolve(shared)


def test_experiment_keys_are_those_of_successes(ledger):
    good, failed = experiment(), experiment(seed=1, error="dead latent")
    other = experiment(tool="score_detection")
    ledger.append(good, failed, other)
    assert ledger.experiment_keys("explain_latent") == {good.key: good.id}
    assert ledger.experiment_keys() == {good.key: good.id, other.key: other.id}


def test_a_store_that_is_not_there_reads_as_empty_and_stays_away(tmp_path):
    ledger = Ledger(tmp_path / "workspace" / "glossator.duckdb")
    assert ledger.find(Score) == []
    assert ledger.experiment_keys() == {}
    assert [ledger.view(name) for name in view_names()] == [[]] * len(view_names())
    with pytest.raises(UserError, match="read-only"):
        ledger.sql("INSERT INTO hypotheses (id, created_at, about, claim) VALUES ('1', now(), 'a', 'b')")
    assert list(tmp_path.iterdir()) == []


def test_sql_reads_but_does_not_write(ledger):
    ledger.append(*every_noun())
    assert ledger.sql("SELECT count(*) AS n, 1.5 AS x FROM scores") == (["n", "x"], [(2, 1.5)])
    for refused in (
        "DELETE FROM scores",
        "DROP TABLE scores",
        "INSERT INTO refusals VALUES ('x')",
        "SELEC 1",
        "SELECT no",
    ):
        with pytest.raises(UserError, match="DuckDB refused the query"):
            ledger.sql(refused)
    assert len(ledger.find(Score)) == 2


def test_view_filters_and_refuses_unknown_names(ledger):
    run, first, second = experiment(), explanation(), explanation("smol/default/8")
    ledger.append(run, first, second, score(first, "d", 0.5, run), score(second, "d", 0.6, run))
    assert [row["value"] for row in ledger.view("scoreboard", latent=LATENT)] == [0.5]
    with pytest.raises(UserError, match=r"there is no view 'scores'; the views are .*scoreboard"):
        ledger.view("scores")


def test_record_commits_many_coroutines_in_a_few_transactions(ledger, monkeypatch):
    ledger.append(Hypothesis(about="warm", claim="up"))
    transactions = []
    append = ledger.append
    monkeypatch.setattr(ledger, "append", lambda *facts: (transactions.append(len(facts)), append(*facts)))

    async def one(n: int) -> None:
        await asyncio.sleep((n % 100) / 200)  # arriving over half a second
        fact = Hypothesis(about="many", claim=str(n))
        await ledger.record(fact)
        if n % 100 == 0:  # it returned, so it is there
            found = await asyncio.to_thread(ledger.get, Hypothesis, fact.id)
            assert found == fact

    async def everybody() -> None:
        await asyncio.gather(*(one(n) for n in range(500)))

    started = time.monotonic()
    asyncio.run(everybody())
    seconds = time.monotonic() - started
    assert sum(transactions) == 500
    assert len(transactions) <= 2 + seconds / INTERVAL_S
    assert len(ledger.find(Hypothesis, about="many")) == 500


def test_record_survives_cancellation_and_close_flushes(ledger):
    async def impatient() -> None:
        task = asyncio.create_task(ledger.record(Hypothesis(about="cancelled", claim="but paid for")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(impatient())
    ledger.close()
    assert len(ledger.find(Hypothesis, about="cancelled")) == 1


def test_record_works_again_after_close(ledger):
    for claim in ("first", "second"):
        asyncio.run(ledger.record(Hypothesis(about="again", claim=claim)))
        ledger.close()
    assert len(ledger.find(Hypothesis, about="again")) == 2


def test_a_fact_that_cannot_be_hashed_fails_alone(ledger):
    async def both() -> list[object]:
        bad = experiment(input={"x": float("nan")})
        good = Hypothesis(about="x", claim="y")
        return await asyncio.gather(ledger.record(bad), ledger.record(good), return_exceptions=True)

    bad, good = asyncio.run(both())
    assert isinstance(bad, ValueError)
    assert good is None
    assert len(ledger.find(Hypothesis)) == 1


def test_record_raises_what_the_store_raises(tmp_path):
    (tmp_path / "glossator.duckdb").write_text("a text")
    ledger = Ledger(tmp_path / "glossator.duckdb")
    with pytest.raises(UserError, match="not a DuckDB file"):
        asyncio.run(ledger.record(Hypothesis(about="x", claim="y")))
    ledger.close()


def test_find_types_are_kept(ledger):
    told = explanation()
    ledger.append(told)
    assert type(ledger.find(Explanation)[0]) is Explanation


def test_rows_from_before_a_migration_keep_their_ids(tmp_path):
    path = tmp_path / "store.duckdb"
    first = next(script for script in load_scripts() if script.file == "migrations/0001_facts.sql")
    with duckdb.connect(path) as connection:
        connection.execute(RECORD)
        connection.execute(first.sql)
        connection.execute("INSERT INTO migrations VALUES (?, ?, now()::TIMESTAMP)", [first.file, first.sha256])
        row = ["c23f41cec8c1f86e217b5864", datetime(2026, 1, 2, 3, 4, 5), "a", "b", None]
        connection.execute("INSERT INTO hypotheses VALUES (?, ?, ?, ?, ?)", row)
    ledger = Ledger(path)
    assert verify(ledger) == []
    (old,) = ledger.find(Hypothesis)
    assert (old.claim, old.dull, old.investigation) == ("b", False, None)
    assert Hypothesis(**{**dict(old), "dull": True}).id != old.id
