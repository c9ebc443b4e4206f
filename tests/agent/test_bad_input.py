"""What a user can get wrong: one clear sentence, exit code 2, nothing written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from store.types import Experiment, Explanation, LLMCall, Score
from tests.agent.conftest import Commands
from tests.agent.planted_cli import planted_text
from tests.stub_llm import Stub
from tests.tools.world import ANIMAL, COLOUR, N_LATENTS
from tools.workbench.corpus import open_corpus
from tools.workbench.subject import Subject

# -- which latents, which tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--latents", "99999"), f"name one from 0 to {N_LATENTS - 1}"),
        (("--latents", "3-1"), "'3-1' names no latents"),
        (("--latents", "three"), "'three' names no latents"),
        (("--latents", "0-99999999999"), "names no latents"),
        ((), "one of --latents 0-999, --sample 8 or --file FILE"),
        (("--latents", "1", "--sample", "2"), "one of --latents"),
        (("--file", "absent.txt"), "Could not read absent.txt"),
        (("--file", "words.txt"), "words.txt, line 2: 'no latent here'"),
        (("--file", "empty.txt"), "empty.txt names no latent"),
        (("--file", "foreign.txt"), "other-model/other-dict/7 is not a latent of"),
        (("--latents", "1", "--explainer", "explain_wrong"), "no explainer 'explain_wrong'"),
        (("--latents", "1", "--scorers", "score_wrong"), "no scorer 'score_wrong'"),
        (("--latents", "1", "--explainer", "score_detection"), "no explainer 'score_detection'"),
        (("--latents", "1", "--max-usd", "-1"), "max_usd (--max-usd)"),
        (("--latents", "1", "--concurrency", "0"), "concurrency (--concurrency)"),
    ],
)
def test_label(options: tuple[str, ...], said: str, world: Commands, llm: Stub, refused: Callable[..., str]) -> None:
    (world.folder / "words.txt").write_text("1\nno latent here\n")
    (world.folder / "empty.txt").write_text("# nothing\n\n")
    (world.folder / "foreign.txt").write_text("1\nother-model/other-dict/7\n")
    assert said in refused("label", *options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("call", "latent_profil", "{}"), "no tool 'latent_profil'"),
        (("call", "latent_profile", "{}"), "latent: Field required"),
        (("call", "latent_profile", '{"latent": 1, "colour": 2}'), "colour: there is no such field, only latent"),
        (("call", "latent_profile", "latent=1"), "not JSON"),
        (("call", "latent_profile", "[1]"), "not a JSON object"),
        (("call", "latent_profile", '{"latent": 99999}'), f"name one from 0 to {N_LATENTS - 1}"),
        (("schema", "nothing"), "no tool 'nothing'"),
    ],
)
def test_tool(arguments: tuple[str, ...], said: str, world: Commands, refused: Callable[..., str]) -> None:
    assert said in refused("tool", *arguments)


# -- the subject ---------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real model is not loaded again; names, dictionaries and their checks are real."""
    monkeypatch.setattr("tools.dictionaries.load.boot", lambda *_, **__: subject.model)


def test_unknown_model(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "Could not load the model './no-model'" in refused("harvest", "--model", "./no-model")


@pytest.mark.parametrize(
    ("name", "said"),
    [("no-dictionary", "There is no dictionary 'no-dictionary'"), ("none:such", "Could not load the dictionary"),
     (".", "holds no dictionary")],
)  # fmt: skip
def test_unknown_dictionary(name: str, said: str, loaded: None, refused: Callable[..., str]) -> None:
    assert said in refused("label", "--sample", "1", "--dictionary", name)


@pytest.mark.parametrize(
    ("width", "hook", "said"),
    [(64, "blocks.15.hook_resid_pre", "reads 64 numbers but"), (576, "blocks.99.hook_resid_pre", "has no hook point"),
     (576, "blocks.0.hook_resid_pre", "worse than a constant")],
)  # fmt: skip
def test_dictionary_that_does_not_fit(
    width: int, hook: str, said: str, loaded: None, run: Commands, refused: Callable[..., str]
) -> None:
    import torch
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    config = StandardSAEConfig(d_in=width, d_sae=32, metadata=SAEMetadata(model_name="m", hook_name=hook))
    sae = StandardSAE(config)
    torch.nn.init.constant_(sae.b_dec, 300.0)
    sae.save_model(run.folder / "other")
    assert said in refused("harvest", "--dictionary", "other")


# -- the corpus ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.txt", None, "There is no corpus 'absent.txt'"),
        ("empty.txt", b" \n", "holds no text"),
        ("picture.txt", b"\x89PNG\r\n\x00\xff", "is not UTF-8 text"),
        ("latin.txt", "été".encode("latin-1"), "is not UTF-8 text"),
        ("rows.jsonl", b'{"words": "x"}\n', "rows.jsonl, row 1, has no 'text'"),
        ("broken.jsonl", b'{"text": ', "is not JSON lines"),
        ("half.jsonl", b'{"text": "a \\ud800 b"}\n', "half a character"),
        ("deep.jsonl", b"[" * 200_000, "is not JSON lines"),
        ("quote.csv", b'text\n"a\x00"', "is not UTF-8 text"),
        ("short.txt", b"cat", "no document of two tokens or more"),
    ],
)
def test_corpus(name: str, content: bytes | None, said: str, world: Commands, refused: Callable[..., str]) -> None:
    if content is not None:
        (world.folder / name).write_bytes(content)
    assert said in refused("harvest", "--corpus", name)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbftext\nall cats\n", b"text\r\nall cats\r\n", b"text\rall cats\r"])
def test_a_csv_of_any_spelling_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    (document,) = open_corpus(str(tmp_path / "rows.csv")).documents
    assert document.text == "all cats"


def test_a_text_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("the same")
    assert len(open_corpus(str(tmp_path)).documents) == 1


@pytest.mark.parametrize("command", ["harvest", "label", "train"])
def test_a_folder_that_cannot_be_made(command: str, world: Commands, llm: Stub) -> None:
    (world.folder / "file").write_text("in the way")
    text = planted_text(world.folder)
    rest = {"harvest": ("--tokens", 2000), "label": ("--latents", COLOUR, "--tokens", 2000), "train": ("file/sae",)}
    place = () if command == "train" else ("--workspace", "file/here")
    outcome = world(command, *rest[command], *place, "--corpus", text)
    assert outcome.code == 2
    assert "cannot be made" in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("hypotheses", "--workspace", "~nobody-here/here"),
        ("harvest", "--corpus", "~nobody-here/text"),
    ],
)
def test_the_home_of_nobody(arguments: tuple[str, ...], world: Commands, refused: Callable[..., str]) -> None:
    assert "in the home of a user whom this machine does not know" in refused(*arguments)


@pytest.mark.parametrize("hook", ["blocks.3.mlp.hook_post", "blocks.3.attn.hook_k"])
def test_training_where_no_residual_stream_is(hook: str, loaded: None, run: Commands) -> None:
    (run.folder / "words.txt").write_text("all cats " * 100)
    outcome = run("train", "sae", "--hook", hook, "--corpus", "words.txt")
    assert outcome.code == 2
    assert "does not hold vectors" in outcome.err.splitlines()[-1]
    assert not (run.folder / "sae").exists()


def test_a_seed_that_the_store_cannot_hold(refused: Callable[..., str]) -> None:
    assert "seed" in refused("label", "--sample", "1", "--seed", str(10**20))


def test_half_a_character_in_a_tool_call(refused: Callable[..., str]) -> None:
    assert "half a character" in refused("tool", "call", "activate_on_text", r'{"latent": 1, "texts": ["\ud800"]}')


def test_folder_without_text(world: Commands, refused: Callable[..., str]) -> None:
    (world.folder / "folder").mkdir()
    assert "holds no text" in refused("harvest", "--corpus", "folder")


# -- the LLM -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("401", "refused the API key (401)"),
        ("404", "no chat completions for model"),
        ("429", "429, too many requests"),
        ("429_long", "asks for a pause"),
        ("html", "answers with a web page"),
        ("invalid_json", "invalid JSON"),
        ("not_a_completion", "not a chat completion"),
        ("half", "broke the connection"),
        ("500", "an error of its own (500"),
    ],
)
def test_endpoint_that_fails(behaviour: str, said: str, world: Commands, llm: Stub) -> None:
    llm.configure(behaviour=behaviour)
    outcome = world("label", "--latents", f"{COLOUR},{ANIMAL}")
    assert (outcome.code, outcome.out) == (2, "")
    last = outcome.err.splitlines()[-1]
    assert said in last
    assert "Traceback" not in outcome.err
    for noun in (Experiment, Explanation, Score, LLMCall):
        assert world.ledger.find(noun) == []


def test_endpoint_that_is_down(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    outcome = world("label", "--latents", COLOUR)
    assert outcome.code == 2
    assert "Nothing answers at http://127.0.0.1:9/v1" in outcome.err.splitlines()[-1]
    assert world.ledger.find(Experiment) == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GLOSSATOR_LLM_MODEL": ""}, "has no model"),
        ({"GLOSSATOR_LLM_BASE_URL": "localhost"}, "not a base URL"),
        ({"GLOSSATOR_LLM_BASE_URL": ""}, "needs an API key"),
    ],
)
def test_endpoint_half_configured(
    variables: dict[str, str], said: str, world: Commands, llm: Stub, refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert said in refused("label", "--latents", COLOUR)


def test_a_later_failure_keeps_what_was_paid_for(world: Commands, llm: Stub) -> None:
    llm.script(*["words"] * 30)
    llm.configure(behaviour="401")
    assert world("label", "--latents", f"{COLOUR},{ANIMAL}").code == 2
    assert len(world.ledger.find(LLMCall)) == 30


def test_label_is_refused_before_anything_is_made(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("opened too early")

    shutil.rmtree(world.workspace)
    corpus = planted_text(world.folder)
    before = sorted(world.folder.rglob("*"))
    monkeypatch.setattr("prompts.ask.LLM.__init__", opened)
    assert "There is no corpus" in world("label", "--sample", 1, "--corpus", "absent.txt").sentence
    monkeypatch.setattr("tools.workbench.harvest.harvest", opened)
    monkeypatch.delenv("GLOSSATOR_LLM_PRICES")
    command = ("label", "--sample", 1, "--corpus", corpus)
    assert "The price of stub is unknown" in world(*command, "--max-usd", 1).sentence
    monkeypatch.setenv("GLOSSATOR_LLM_BASE_URL", "localhost")
    assert "not a base URL" in world(*command).sentence
    assert sorted(world.folder.rglob("*")) == before


def test_query_that_writes_or_is_wrong(world: Commands, llm: Stub, refused: Callable[..., str]) -> None:
    world("label", "--latents", COLOUR)
    assert "give one SELECT" in refused("sql", "DELETE FROM scores")
    assert "refused the query" in refused("sql", "SELECT wrong FROM nowhere")
    assert "no format 'xml'" in refused("sql", "SELECT 1", "--format", "xml")
