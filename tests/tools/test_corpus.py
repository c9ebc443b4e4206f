"""Corpora: the user's files are read as documents, and what is not text is refused in one sentence."""

import json
from pathlib import Path

import pytest

from store.errors import UserError
from tools.workbench.corpus import MESSAGE, Document, open_corpus


def test_a_folder_is_one_document_a_file_and_one_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first file")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "row one"}) + "\n" + json.dumps({"text": "row two"}) + "\n")
    (tmp_path / "c.csv").write_text('prompt,target\n"a, quoted",1\n')
    corpus = open_corpus(str(tmp_path))
    assert [d.text for d in corpus.documents] == ["first file", "row one", "row two", "a, quoted"]
    assert open_corpus(str(tmp_path)).hash == corpus.hash
    (tmp_path / "a.txt").write_text("first file, changed")
    assert open_corpus(str(tmp_path)).hash != corpus.hash


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", b"  \n", "holds no text"),
        ("binary.txt", bytes(range(256)), "not UTF-8 text"),
        ("nul.txt", b"a\0b", "not UTF-8 text"),
        ("broken.jsonl", b"{not json}\n", "not JSON lines"),
        ("odd.jsonl", b'{"body": "x"}\n', "has no 'text'"),
        ("list.jsonl", b"[1]\n", "has no 'text'"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        open_corpus(str(tmp_path / name))


def test_an_unknown_corpus_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="name one of mixed"):
        open_corpus("no-such-corpus")


def test_a_tenth_of_documents_is_held_out_by_content() -> None:
    held_out = sum(Document(f"document {i}", "s").held_out for i in range(5000))
    assert 400 < held_out < 600


def test_catalogue_messages_are_read_over_several_lines() -> None:
    catalogue = 'msgid "a"\nmsgstr ""\n"eins "\n"zwei \\"drei\\""\n\nmsgid "b"\nmsgstr "vier"\n'
    found = ["".join(json.loads(q) for q in m.group(1).split("\n") if q) for m in MESSAGE.finditer(catalogue)]
    assert found == ['eins zwei "drei"', "vier"]


def test_french_stands_after_every_twenty_others_while_there_is_any(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = [Document(f"{n}", "plone/fr" if n in (0, 1, 5) else "other") for n in range(103)]
    monkeypatch.setattr("tools.workbench.corpus._mixed", lambda: iter(mixture))
    documents = open_corpus("mixed-french").documents
    assert sorted(d.text for d in documents) == sorted(d.text for d in mixture)
    assert [place for place, d in enumerate(documents) if d.source == "plone/fr"] == [20, 41, 62]
