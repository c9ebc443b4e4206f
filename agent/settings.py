"""Every setting, its unit and where its value comes from: flags, then GLOSSATOR_* variables, then glossator.toml."""

import os
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from store.errors import UserError

FILE = "glossator.toml"
PREFIX = "GLOSSATOR_"
ROLES = ("agent", "explainer", "judge")
MASK = "********"
SECRET_IN_QUERY = re.compile(r"((?:^|[&;])[^=&;]*(?:key|token)=)[^&;]*", re.IGNORECASE)

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # what the store can hold


class EndpointSettings(BaseModel):
    """One OpenAI-compatible endpoint; what is not set falls back to the settings under `llm`."""

    model_config = ConfigDict(extra="forbid")

    base_url: str | None = Field(default=None, description="base URL, such as http://127.0.0.1:8000/v1")
    api_key: SecretStr | None = Field(default=None, description="API key")
    model: str | None = Field(default=None, min_length=1, description="model name as the endpoint spells it")
    temperature: Annotated[float, Field(ge=0)] | Literal["omit"] | None = Field(
        default=None, description="sampling temperature, 0 unless set; omit for models that refuse the parameter"
    )
    max_tokens: Count | None = Field(default=None, description="longest reply, tokens")
    timeout_s: Amount | None = Field(default=None, description="wait for one reply, seconds")
    retries: Annotated[int, Field(ge=0)] | None = Field(default=None, description="further tries after a failed one")
    capable: bool | None = Field(default=None, description="a large model: is shown more examples")
    tool_calls: bool | None = Field(
        default=None, description="whether it takes native tool calls, as most servers do; else JSON objects are asked"
    )
    prices: tuple[Dollars, Dollars] | None = Field(
        default=None, description="US dollars per million prompt, completion tokens"
    )


class Settings(BaseSettings):
    """All settings of one command. Build with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        toml_file=FILE,
        extra="forbid",
    )

    workspace: Path = Field(default=Path("glossator-workspace"), description="folder of store, activations and replies")
    cache: Path | None = Field(default=None, description="folder of downloads; by default the user's cache folder")
    model: str = Field(default="smollm2-135m-instruct", description="subject model: embedded name, hub name or folder")
    dictionary: str = Field(
        default="l15-4608", description="dictionary: embedded name, folder, SAELens release:id, or planted"
    )
    adapter: str | None = Field(
        default=None, min_length=1, description="LoRA in the model: an organism's name, or a folder"
    )
    base: str | None = Field(
        default=None,
        min_length=1,
        description="model that reads the same text as a control; by default what lies below the adapter",
    )
    hook: str | None = Field(default=None, description="hook point, by default the one the dictionary states")
    device: str | None = Field(default=None, description="cpu, cuda, ...; by default CUDA if there is one")
    dtype: str | None = Field(default=None, description="float32 or bfloat16; by default the faster one")
    corpus: str = Field(default="mixed", description="text to harvest from: a named corpus, a file or a folder")
    tokens: Count = Field(default=200_000, description="size of a harvest, tokens")
    concurrency: Count = Field(default=8, description="requests to LLMs in flight")
    requests_per_minute: Count | None = Field(default=None, description="requests to LLMs a minute, if limited")
    max_usd: Amount | None = Field(default=None, description="limit of one run, US dollars")
    max_calls: Count | None = Field(default=None, description="limit of one run, requests sent to LLMs")
    max_hours: Amount | None = Field(default=None, description="limit of one run, hours")
    store_wait_s: Amount = Field(default=30.0, description="longest wait for a turn at the store, seconds")
    reviewer: str | None = Field(default=None, min_length=1, description="your name on reviews, else the system's")
    seed: Seed = Field(default=0, description="seed of every random choice")
    llm: EndpointSettings = Field(default=EndpointSettings(), description="endpoint of every role")
    agent: EndpointSettings = Field(default=EndpointSettings(), description="endpoint of the agent")
    explainer: EndpointSettings = Field(default=EndpointSettings(), description="endpoint of the explainer")
    judge: EndpointSettings = Field(default=EndpointSettings(), description="endpoint of the judge")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def endpoint(self, role: str) -> EndpointSettings:
        """The endpoint of `role`, completed from `llm`. A key is never sent to a host it was not set for."""
        own: EndpointSettings = getattr(self, role)
        common = self.llm.model_dump()
        if own.base_url is not None and own.base_url != self.llm.base_url:
            common["api_key"] = None
        return EndpointSettings(**(common | own.model_dump(exclude_none=True)))


class Origin(NamedTuple):
    """One setting as it is in force. `value` is fit to be shown: keys are masked."""

    name: str
    value: Any
    source: str
    description: str


def load(flags: dict[str, Any] | None = None) -> Settings:
    """The settings in force. Raises UserError, in one sentence.

    `flags` are a command's arguments: those that name a setting and are not None overrule every other source.
    """
    given = _given(flags)
    _refuse_unknown_variables()
    try:
        return Settings(**given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(map(str, fault["loc"]))
        where, what = _source(name, given, _from_file()), fault["msg"]
        raise UserError(f"The setting {name} ({where}) is wrong: {what}; see glossator config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{FILE} is not valid TOML ({error}): correct it or move it away.") from None
    except ValueError as error:  # a variable that should hold JSON and does not
        raise UserError(f"The settings cannot be read: {error}; glossator config lists the settings.") from None


def origins(settings: Settings, flags: dict[str, Any] | None = None) -> list[Origin]:
    """Every setting in order, with its value and where it came from."""
    given, file = _given(flags), _from_file()
    return [
        Origin(name, _shown(name, value), _source(name, given, file), description)
        for name, value, description in _fields(settings)
    ]


def _given(flags: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (flags or {}).items() if name in Settings.model_fields and value is not None}


def _fields(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, EndpointSettings):
            yield from _fields(value, f"{name}.")
        else:
            yield prefix + name, value, field.description or ""


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if name.endswith("base_url") and isinstance(value, str) and ("@" in value or "?" in value):
        parts = urlsplit(value)
        user, at, host = parts.netloc.rpartition("@")
        netloc = f"{MASK}{at}{host}" if user else host
        return urlunsplit(parts._replace(netloc=netloc, query=SECRET_IN_QUERY.sub(rf"\1{MASK}", parts.query)))
    return str(value) if isinstance(value, Path) else value


def _source(name: str, flags: dict[str, Any], file: dict[str, Any]) -> str:
    if name in flags:
        return f"--{name.replace('_', '-')}"
    variable = PREFIX + name.replace(".", "_").upper()
    if os.environ.get(variable):
        return variable
    table: Any = file
    for part in name.split("."):
        table = table.get(part) if isinstance(table, dict) else None
    return FILE if table is not None else "default"


def _from_file() -> dict[str, Any]:
    return TomlConfigSettingsSource(Settings)()


def _refuse_unknown_variables() -> None:
    known = {PREFIX + name.replace(".", "_").upper() for name, _, _ in _fields(Settings.model_construct())}
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            near = get_close_matches(variable, known, 1)
            hint = f"did you mean {near[0]}?" if near else "glossator config lists the settings."
            raise UserError(f"The variable {variable} names no setting: {hint}")
