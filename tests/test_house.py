"""The house itself: what lies at the top, where the packages resolve, which way imports run, what the wheel ships."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agent", "tools", "prompts", "store")
DICTIONARIES = ("l15-4608", "l22-2304")
TOP = {
    *PACKAGES, "tests", ".ci", ".gitignore", "pyproject.toml", "constraints.txt", "langgraph.json",
    "README.md", "BENCHMARKS.md", "LOG.md", "LICENSE",
}  # fmt: skip


def script(name: str) -> str:
    """A console script of this environment."""
    return str(Path(sys.executable).parent / name)


def test_the_top_level_is_fixed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == TOP


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_resolve_into_this_tree(name: str) -> None:
    assert Path(str(import_module(name).__file__)).parent == ROOT / name


def test_imports_run_one_way() -> None:
    result = subprocess.run([script("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_contracts_can_fail(tmp_path: Path) -> None:
    """The same contracts on a copy in which store imports agent and prompts imports duckdb."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    for family in (
        "workbench",
        "lookup",
        "labelling",
        "steering",
        "patching",
        "probing",
        "elicitation",
        "dictionaries",
        "organisms",
    ):
        (tmp_path / "tools" / family).mkdir()
        (tmp_path / "tools" / family / "__init__.py").write_text("")
    (tmp_path / "store" / "bad.py").write_text("import agent\n")
    (tmp_path / "prompts" / "bad.py").write_text("import duckdb\n")
    command = [script("lint-imports"), "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert "store.bad -> agent" in result.stdout
    assert "prompts.bad -> duckdb" in result.stdout


def test_the_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    """Built, installed aside and run elsewhere, it finds its templates, SQL and default dictionary."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("glossator-*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    probe = (
        "import json, agent.cli, store.ledger, prompts.template;"
        "from pathlib import Path; from tools.dictionaries.load import SHIPPED as d;"
        "from prompts.template import load; load('explain_latent');"
        "ledger = store.ledger.Ledger(Path('store.duckdb')); ledger.append();"
        "shipped = sorted(p.relative_to(d).as_posix() for p in d.glob('*/*'));"
        "print(json.dumps([agent.cli.__file__, shipped, ledger.view('scoreboard')]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run([sys.executable, "-c", probe], cwd=empty, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    module, shipped, rows = json.loads(run.stdout)
    assert Path(module).is_relative_to(tmp_path / "site")
    assert {f"{d}/{name}" for d in DICTIONARIES for name in ("cfg.json", "sae_weights.safetensors")} <= set(shipped)
    assert rows == []
    help_text = subprocess.run(
        [sys.executable, "-m", "agent.cli", "--help"], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert help_text.returncode == 0
    assert "label" in help_text.stdout
