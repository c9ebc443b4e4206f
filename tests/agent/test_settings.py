"""Where settings come from, and what is said when one is wrong."""

from pathlib import Path

import pytest

from agent.settings import MASK, Settings, load, origins
from store.errors import UserError
from tests.agent.conftest import Commands


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_beat_variables_beat_the_file_beat_defaults(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_folder / "glossator.toml").write_text('seed = 1\nconcurrency = 11\ncorpus = "from-file"\n')
    monkeypatch.setenv("GLOSSATOR_SEED", "2")
    monkeypatch.setenv("GLOSSATOR_CONCURRENCY", "22")
    flags = {"seed": 3, "concurrency": None, "json": True}
    found = {origin.name: (origin.value, origin.source) for origin in origins(load(flags), flags)}
    assert found["seed"] == (3, "--seed")
    assert found["concurrency"] == (22, "GLOSSATOR_CONCURRENCY")
    assert found["corpus"] == ("from-file", "glossator.toml")
    assert found["model"] == ("smollm2-135m-instruct", "default")


def test_config_masks_keys_and_says_where_they_came_from(
    run: Commands, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_folder / "glossator.toml").write_text('[llm]\nbase_url = "http://me:secret@host/v1"\n')
    monkeypatch.setenv("GLOSSATOR_JUDGE_API_KEY", "sk-secret")
    for outcome in (run("config"), run("config", "--json")):
        assert outcome.code == 0
        assert "secret" not in outcome.out.replace("\n", "")
    found = outcome.json
    assert found["judge.api_key"] == {"value": MASK, "source": "GLOSSATOR_JUDGE_API_KEY"}
    assert found["llm.base_url"] == {"value": f"http://{MASK}@host/v1", "source": "glossator.toml"}


def test_config_says_that_each_role_can_have_an_endpoint(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_JUDGE_MODEL", "small")
    lines = [line.split() for line in run("config").out.splitlines()]
    for role in ("agent", "explainer", "judge"):
        (line,) = (line for line in lines if line[:1] == [f"{role}.*"])
        assert line[1:3] == ["(as", "llm)"]
    assert ["judge.model", "small", "GLOSSATOR_JUDGE_MODEL"] in [line[:3] for line in lines]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v1?api_key=secret&region=eu", f"https://host/v1?api_key={MASK}&region=eu"),
        ("https://host/v1?region=eu&access_token=secret", f"https://host/v1?region=eu&access_token={MASK}"),
        ("https://host/v1?Key=secret", f"https://host/v1?Key={MASK}"),
        ("https://me:secret@host/v1?region=eu", f"https://{MASK}@host/v1?region=eu"),
        ("https://host/v1", "https://host/v1"),
    ],
)
def test_secrets_in_an_address_are_masked(url: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", url)
    assert next(origin.value for origin in origins(load()) if origin.name == "llm.base_url") == shown


def test_every_setting_says_what_it_means() -> None:
    assert all(origin.description for origin in origins(Settings()))


def test_roles_fall_back_to_the_common_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", "http://common/v1")
    monkeypatch.setenv("GLOSSATOR_LLM_MODEL", "large")
    monkeypatch.setenv("GLOSSATOR_JUDGE_MODEL", "small")
    settings = load()
    assert (settings.endpoint("explainer").model, settings.endpoint("judge").model) == ("large", "small")
    assert settings.endpoint("judge").base_url == "http://common/v1"


def test_a_key_goes_only_to_the_host_it_was_set_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_API_KEY", "sk-common")
    monkeypatch.setenv("GLOSSATOR_JUDGE_BASE_URL", "http://elsewhere/v1")
    settings = load()
    key = settings.endpoint("explainer").api_key
    assert key is not None
    assert key.get_secret_value() == "sk-common"
    assert settings.endpoint("judge").api_key is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GLOSSATOR_SEED", "many", "seed (GLOSSATOR_SEED)"),
        ("GLOSSATOR_CONCURRENCY", "0", "concurrency (GLOSSATOR_CONCURRENCY)"),
        ("GLOSSATOR_MODLE", "x", "did you mean GLOSSATOR_MODEL?"),
        ("GLOSSATOR_JUDGE_MODLE", "x", "did you mean GLOSSATOR_JUDGE_MODEL?"),
        ("GLOSSATOR_LLM_PRICES", "cheap", "llm"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as refused:
        load()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("seed = ", "not valid TOML"), ("sed = 1", "sed (glossator.toml)"), ("[judge]\nmodel = 1", "judge.model")],
)
def test_a_wrong_file_is_named(text: str, said: str, own_folder: Path) -> None:
    (own_folder / "glossator.toml").write_text(text)
    with pytest.raises(UserError, match=said.replace("(", r"\(").replace(")", r"\)")):
        load()
