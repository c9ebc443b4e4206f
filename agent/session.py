"""The front hall: the only place that builds Subject, Harvest, LLM, Ledger and Context."""

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.screen.console import meter
from agent.settings import Settings
from store.disk import expanded
from store.errors import UserError
from store.ids import content_hash
from store.ledger import Ledger
from store.types import slug

if TYPE_CHECKING:
    from prompts.ask import LLM
    from prompts.budget import Budget
    from prompts.providers import Endpoint, Role
    from store.activations import Harvest
    from tools.workbench.adapters import Adapter
    from tools.workbench.context import Context
    from tools.workbench.corpus import Corpus
    from tools.workbench.subject import Subject

MANIFEST = "manifest.json"
PLANTED = "planted"  # the dictionary of latents whose meaning is known


class Session:
    """What one command works with; each part is built when it is first asked for. Open with `open_session`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workspace = expanded(settings.workspace)

    def need_workspace(self) -> None:
        """UserError when the workspace that was named is not there: a slip of the pen must not look like no results."""
        if "workspace" in self.settings.model_fields_set and not self.workspace.is_dir():
            raise UserError(f"There is no workspace {self.workspace}: name one that glossator label or harvest made.")

    @property
    def store(self) -> Path:
        return self.workspace / "store.duckdb"

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.settings.store_wait_s)

    @cached_property
    def subject(self) -> "Subject":
        """The model and its dictionary. UserError when they are unknown or do not fit together."""
        from tools.dictionaries.load import load_subject

        s = self.settings
        if s.dictionary == PLANTED:
            return self._planted()
        return load_subject(s.model, s.dictionary, s.hook, s.device, s.dtype or self._settled_dtype(), self.adapter)

    @cached_property
    def adapter(self) -> "Adapter | None":
        """What `--adapter` names. UserError when there is no such adapter."""
        from tools.organisms.catalogue import find_adapter

        return find_adapter(self.settings.adapter) if self.settings.adapter else None

    @cached_property
    def base(self) -> "Subject | None":
        """The model that `--base` names; the subject itself where that is the one, or for the organism `none`.

        None where there is no other than what lies below the adapter. UserError for a model that reads other tokens.
        """
        from tools.dictionaries.load import load_subject

        s = self.settings
        if not self.adapter and (s.base == s.model or (s.base is None and s.adapter)):
            return self.subject
        if s.base is None:
            return None
        dtype = str(self.subject.dtype).removeprefix("torch.")
        base = load_subject(s.base, s.dictionary, s.hook, s.device, dtype)
        if base.tokenizer.get_vocab() != self.subject.tokenizer.get_vocab():
            raise UserError(f"{s.base} reads other tokens than {s.model}: name the model it was tuned from as --base.")
        return base

    def _planted(self) -> "Subject":
        from tools.dictionaries.load import load_subject
        from tools.organisms.planted.subject import HOOK, PlantedSubject

        s = self.settings
        if s.hook not in (None, HOOK) or s.dtype not in (None, "float32"):
            raise UserError(f"The planted latents are at {HOOK}, in float32: leave out --hook and --dtype.")
        if self.adapter:
            raise UserError("The planted latents are in the model as it is: leave out --adapter.")
        bare = load_subject(s.model, None, HOOK, s.device, "float32")
        return PlantedSubject(bare.name, bare.model)

    def bare_subject(self, dtype: str | None = None) -> "Subject":
        """The model alone, to train a dictionary at the hook point of the settings; `dtype` where they name none."""
        from tools.dictionaries.load import load_subject

        s = self.settings
        return load_subject(s.model, None, s.hook, s.device, s.dtype or dtype, self.adapter)

    @cached_property
    def corpus(self) -> "Corpus":
        from tools.workbench.corpus import open_corpus

        return open_corpus(self.settings.corpus)

    def harvest(self) -> "Harvest":
        """The workspace's harvest of the subject, made now if there is none."""
        return self.find_harvest() or self.make_harvest()

    def find_harvest(self) -> "Harvest | None":
        """The finished harvest of the subject that holds most tokens; of the corpus asked for, if one was asked for."""
        from store.activations import Harvest

        wanted: dict[str, Any] = {"subject": self.subject.fingerprint}
        if "corpus" in self.settings.model_fields_set:
            wanted["corpus_hash"] = self.corpus.hash
        if "tokens" in self.settings.model_fields_set:
            wanted["tokens"] = self.settings.tokens
        found = [
            (sum(shard["n_tokens"] for shard in manifest["shards"]), folder)
            for folder, manifest in self._manifests()
            if manifest.get("complete") and wanted.items() <= manifest["header"].items()
        ]
        return Harvest(max(found)[1]) if found else None

    def harvest_of(self, fingerprint: str) -> "Harvest | None":
        """The harvest that `Context.fingerprint` was made with; the subject's largest if that is not there."""
        made = self._surroundings(fingerprint)
        return made[0] if made else self.find_harvest()

    def has_loaded(self, fingerprint: str) -> bool:
        """Whether `Context.fingerprint` is of the subject that is loaded, and of no or an existing harvest."""
        return "subject" in vars(self) and bool(self._surroundings(fingerprint))

    def _surroundings(self, fingerprint: str) -> "list[Harvest | None]":
        """The harvest, or None, with which the subject gives that `Context.fingerprint`; empty when nothing does."""
        from tools.workbench.context import fingerprint as of

        every: list[Harvest | None] = [None, *self.harvests()]
        return [harvest for harvest in every if of(self.subject, harvest, self.base) == fingerprint][:1]

    def harvests(self) -> "list[Harvest]":
        """Every finished harvest of the workspace."""
        from store.activations import Harvest

        return [Harvest(folder) for folder, manifest in self._manifests() if manifest.get("complete")]

    def make_harvest(self) -> "Harvest":
        """Harvests, going on from the last whole shard of an earlier try."""
        from tools.workbench.harvest import harvest

        tokens, subject, corpus = self.settings.tokens, self.subject, self.corpus
        content = content_hash([subject.fingerprint, corpus.hash, tokens])[:8]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{subject.dictionary.name}-{corpus.name}-{tokens}-{content}")
        with meter(f"harvesting {corpus.name}, tokens") as advance:
            return harvest(subject, corpus, tokens, self.workspace / "activations" / name, advance)

    def llm(
        self,
        budget: "Budget | None" = None,
        roles: "Collection[Role] | None" = None,
        ask_again: bool = False,
        from_records: bool = False,
    ) -> "LLM":
        """The door to LLMs for `roles` (None: all); one without an endpoint is served by the embedded LLM, started if
        it is not running.

        With `ask_again` a cached reply that cannot be used is asked for anew.
        With `from_records` nothing is started or asked: replies come from the cache and the ledger.
        """
        from prompts.ask import LLM
        from prompts.local import recorded_endpoint
        from prompts.providers import Role

        asked = Role if roles is None else roles
        if from_records:
            endpoints = {role: self._endpoint(role) or recorded_endpoint() for role in asked}
        else:
            endpoints = {role: self.endpoint(role) for role in asked}
        s = self.settings
        cache = self.workspace / "replies.sqlite"
        limits = (s.concurrency, s.requests_per_minute, budget)
        return LLM(endpoints, self.ledger, cache, *limits, ask_again=ask_again, from_records=from_records)

    def endpoint(self, role: "Role") -> "Endpoint":
        """Who answers `role`: the endpoint that is set for it, else the embedded LLM, started if it is not running."""
        from prompts.local import embedded_endpoint

        return self._endpoint(role) or embedded_endpoint()

    def ensure_llm(self) -> None:
        """Fetches and starts the embedded LLM, if the agent is served by it, so that `llm` keeps nobody waiting."""
        from prompts.local import ensure_server

        if self.embedded_agent:
            ensure_server()

    @property
    def embedded_agent(self) -> bool:
        """Whether the embedded LLM is the agent."""
        return self._endpoint("agent") is None

    def answered(self) -> "frozenset[Role]":
        """The agent, and the roles that can be asked beside it: all where the embedded LLM serves the agent, else those
        with an endpoint, so that no LLM is fetched which nobody named."""
        from prompts.providers import Role

        return frozenset(role for role in Role if self.embedded_agent or self._endpoint(role) is not None)

    def context(self, harvest: "Harvest | None" = None, llm: "LLM | None" = None) -> "Context":
        from tools.workbench.context import Context

        return Context(
            self.subject, self.ledger, harvest, llm, self.settings.seed, self.through, self.base, self.opening
        )

    @property
    def opening(self) -> dict[str, str]:
        """What `--model`, `--dictionary`, `--hook`, `--dtype` and `--base` would be for this subject and base."""
        s = self.settings
        said = {
            "model": s.model,
            "dictionary": s.dictionary,
            "hook": s.hook,
            "dtype": str(self.subject.dtype).removeprefix("torch."),
            "base": s.model if self.base is self.subject else s.base,
        }
        return {name: value for name, value in said.items() if value is not None}

    @cached_property
    def through(self) -> "Callable[[str], Subject]":
        """The model with another dictionary, by its name; each is loaded and checked once."""
        from tools.dictionaries.load import with_dictionary

        return cache(partial(with_dictionary, self.subject))

    def check_llm(self, budget: "Budget", asked: "Collection[Role]") -> None:
        """Refuses what `llm` would for these roles, and a limit in dollars where a price is unknown; opens nothing."""
        from prompts.local import check_installed
        from prompts.pricing import dollars
        from prompts.providers import check

        for role in asked:
            endpoint = self._endpoint(role)
            if endpoint is None:
                check_installed()
                continue
            check(endpoint)
            budget.check_price(dollars(endpoint, 1, 1), endpoint.model)

    def check_agent(self) -> None:
        """LLMError, before anything is loaded, when nothing listens where the agent's endpoint is said to be."""
        from prompts.providers import check_listening

        if endpoint := self._endpoint("agent"):
            check_listening(endpoint)

    def _endpoint(self, role: str) -> "Endpoint | None":
        """The endpoint that is set for `role`; None where that is the embedded LLM."""
        from prompts.providers import Endpoint, shown

        given = self.settings.endpoint(role)
        if given.model is None and given.base_url is None:
            return None
        if given.model is None:
            raise UserError(
                f"The {role}'s endpoint {shown(given.base_url or '')} has no model: set GLOSSATOR_LLM_MODEL "
                f"or GLOSSATOR_{role.upper()}_MODEL to a model it serves."
            )
        values = {"tool_calls": True} | given.model_dump(exclude_none=True)
        if values.get("temperature") == "omit":
            values["temperature"] = None
        return Endpoint(**values)

    def _settled_dtype(self) -> str | None:
        """The dtype this workspace's harvests of the model were made in, so that a timing does not change it later."""
        model = self.settings.model
        name = Path(model).resolve().name if Path(model).is_dir() else model
        name = slug(self.adapter.adapted(name) if self.adapter else name)
        dtypes = [m["header"]["dtype"] for _, m in self._manifests() if m["header"].get("model") == name]
        return dtypes[-1] if dtypes else None

    def _manifests(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self.workspace.glob(f"activations/*/{MANIFEST}")):
            try:
                yield path.parent, json.loads(path.read_text("utf-8"))
            except (OSError, ValueError):
                raise UserError(f"{path} cannot be read; delete {path.parent} and harvest again.") from None


def use_cache(settings: Settings) -> None:
    """Downloads go to the folder of the settings, if they name one; also those of child processes."""
    if settings.cache is not None:
        os.environ["GLOSSATOR_CACHE"] = str(expanded(settings.cache).resolve())


@contextmanager
def open_session(settings: Settings) -> Iterator[Session]:
    """A session whose ledger is flushed at the end. What libraries print meanwhile goes to stderr."""
    use_cache(settings)
    session = Session(settings)
    with redirect_stdout(sys.stderr):
        try:
            yield session
        finally:
            if "ledger" in vars(session):
                session.ledger.close()
