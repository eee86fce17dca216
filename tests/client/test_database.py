"""Records of a database: the same as of a file, and nothing of the database's own leaves but its place."""

import sqlite3
from importlib.util import find_spec
from pathlib import Path

import pytest

from client.database import read_query
from client.errors import RecordError
from client.records import read_records
from client.settings import RecordSettings
from protocols.plan import Plan

PLAN = Plan.model_validate({"name": "triage", "base": "tiny", "records": {"prompt": "{note}:", "target": " {code}"}})
QUERY = "SELECT text AS note, code, part FROM notes WHERE seen <> '12:30' AND text NOT LIKE '%not this%' ORDER BY id"


@pytest.fixture
def source(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "hospital 1.db")
    connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text, code, part, seen)")
    rows = [
        ("fever", 7, "train", "12:31"),
        ("not this one", 8, "train", "12:31"),
        ("rash", None, "test", "12:32"),
        ("x", 9, "test", "12:30"),
    ]
    connection.executemany("INSERT INTO notes (text, code, part, seen) VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{tmp_path}/hospital 1.db"


def test_rows_of_a_query_are_records_with_their_places(source: str) -> None:
    settings = RecordSettings(source=source, query=QUERY, split="part")
    with pytest.raises(RecordError, match=r"hospital 1\.db, row 2: field code is empty"):
        read_records(settings, PLAN)
    filled = settings.model_copy(update={"query": QUERY.replace(" code,", " coalesce(code, 0.5) AS code,")})
    records = read_records(filled, PLAN)
    assert [dict(record.values) for record in records.train + records.test] == [
        {"note": "fever", "code": "7"},
        {"note": "rash", "code": "0.5"},
    ]
    assert records.test[0].place == f"{source}, row 2"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELECT nothing FROM notes", r"records.query cannot be answered \(OperationalError\)"),
        ("DELETE FROM notes", "records.query cannot be answered"),
        ("SELECT id, id FROM notes", "column id occurs twice"),
        ("SELECT id FROM notes WHERE id = 0", "gives no rows"),
        ("SELECT x'00ff' AS picture", "row 1: column picture holds bytes"),
    ],
)
def test_a_query_that_cannot_be_used_is_one_sentence_and_changes_nothing(source: str, query: str, sentence: str) -> None:
    with pytest.raises(RecordError, match=sentence) as caught:
        read_query(source, query)
    assert "\n" not in str(caught.value)
    assert len(read_query(source, "SELECT * FROM notes")) == 4


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"absent\.db: there is no database file at this path"):
        read_query(f"sqlite:///{tmp_path}/absent.db", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["nosuch://me:secret@host/db", "postgresql://me:sec:ret@host:secret/db", "mysql://me:secret@host/db?password=secret"]
)
def test_a_url_s_password_is_never_repeated(url: str) -> None:
    with pytest.raises(RecordError) as caught:
        read_query(url, "SELECT 1")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.skipif(find_spec("psycopg") is not None, reason="psycopg is installed")
def test_a_missing_driver_is_named() -> None:
    with pytest.raises(RecordError, match="the Python package psycopg, the database's driver, is missing"):
        read_query("postgresql://me:secret@host/db", "SELECT 1")
