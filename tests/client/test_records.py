import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from client.errors import RecordError
from client.records import plan_fields, read_records
from client.settings import RecordSettings
from protocols.plan import Plan, RecordTemplates

ROWS: list[dict[str, Any]] = [
    {"id": "1", "text": "fever, cough", "code": "A", "split": "train"},
    {"id": "2", "text": 'said "no"\nthen left', "code": "B", "split": "test"},
    {"id": "3", "text": "Ünïcode", "code": "A", "split": "val"},
    {"id": "4", "text": "rash", "code": "B", "split": "train"},
]


def plan(prompt: str = "{note}:", target: str = " {code}") -> Plan:
    return Plan.model_validate({"schema": 1, "name": "triage", "base": "tiny", "records": {"prompt": prompt, "target": target}})


def settings(source: Path, **changes: Any) -> RecordSettings:
    return RecordSettings.model_validate({"source": str(source), "split": "split", "fields": {"note": "text"}} | changes)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def csv_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [",".join(rows[0])] + [",".join('"' + value.replace('"', '""') + '"' for value in row.values()) for row in rows]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(("writer", "suffix"), [(jsonl, "jsonl"), (csv_file, "csv"), (parquet, "parquet")])
def test_every_format_gives_the_same_records(tmp_path: Path, writer: Any, suffix: str) -> None:
    records = read_records(settings(writer(tmp_path / f"records.{suffix}", ROWS)), plan())
    assert [dict(record.values) for record in records.train] == [{"note": "fever, cough", "code": "A"}, {"note": "rash", "code": "B"}]
    assert [dict(record.values) for record in records.test] == [{"note": 'said "no"\nthen left', "code": "B"}]


def test_pattern_reads_all_files_in_order_of_name(tmp_path: Path) -> None:
    jsonl(tmp_path / "b.jsonl", ROWS[2:])
    jsonl(tmp_path / "a.jsonl", ROWS[:2])
    assert [record.values["note"] for record in read_records(settings(tmp_path / "*.jsonl"), plan()).train] == ["fever, cough", "rash"]


def test_numbers_become_text_and_digits_in_csv_stay(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "r.jsonl", [{"text": 7, "code": True, "split": "train"}, {"text": 0.5, "code": "007", "split": "test"}])
    records = read_records(settings(path), plan())
    assert [dict(r.values) for r in records.train + records.test] == [{"note": "7", "code": "true"}, {"note": "0.5", "code": "007"}]
    (tmp_path / "r.csv").write_text("text,code,split\n007,1.50,train\n008,x,test\n")
    assert read_records(settings(tmp_path / "r.csv"), plan()).train[0].values == {"note": "007", "code": "1.50"}


def test_semicolons_separate_where_the_header_has_them(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text('text;code;split\n"fever; cough, rash";A;train\nb,c;B;test\n')
    records = read_records(settings(tmp_path / "r.csv"), plan())
    assert [dict(r.values) for r in records.train + records.test] == [
        {"note": "fever; cough, rash", "code": "A"},
        {"note": "b,c", "code": "B"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("r.jsonl", b'{"text": "a", "code": "b", "split": "train"}\n{"text": "a", "split": "test"}\n', "line 2: field code is missing"),
        ("r.jsonl", b'{"text": null, "code": "b", "split": "train"}\n', "line 1: field text is empty"),
        ("r.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not valid JSON"),
        ("r.jsonl", b"[1, 2]\n", "line 1: not a JSON object"),
        ("r.jsonl", b'{"text": "\\ud800", "code": "b", "split": "train"}\n', "line 1: field text holds half a surrogate pair"),
        ("r.jsonl", b"\n\n", "holds no records"),
        ("r.jsonl", b"", "holds no records"),
        ("r.jsonl", '{"text": "Zürich"}\n'.encode("latin-1"), "line 1: not UTF-8 text at byte 12"),
        ("r.jsonl", '{"text": "a"}\n'.encode("utf-16"), "line 1: not UTF-8"),
        ("r.csv", b"", "holds no records"),
        ("r.csv", b"text,code,split\n", "holds no records"),
        ("r.csv", b"text,code,split\na,b,train\na,b,c,test\n", "line 3: 4 cells, but the header has 3"),
        ("r.csv", b"text,text,split\na,b,train\n", "column text occurs twice"),
        ("r.csv", b"text,,split\na,b,train\n", "a column has no name"),
        ("r.csv", b'text,code,split\n"a"b,c,train\n', "line 2: not valid CSV"),
        ("r.csv", b"text,split\na,train\n", "line 2: field code is missing"),
        ("r.csv", b"text,code,split\na\0,b,train\n", "line 2: a zero byte"),
        ("r.parquet", b"no parquet", "not a readable Parquet file"),
        ("r.xlsx", b"", "are read from .jsonl, .csv and .parquet"),
        ("r.jsonl", b'{"text": "a", "code": "b", "split": "train"}\n', "there are no test records"),
        ("r.jsonl", b'{"text": "a", "code": "b", "split": "test"}\n', "there are no training records"),
    ],
)
def test_bad_input_is_one_sentence_naming_file_and_line(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_records(settings(path), plan())
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there is no file at this path"):
        read_records(settings(tmp_path / "*.jsonl"), plan())


def test_hash_keeps_groups_whole_and_does_not_depend_on_other_records(tmp_path: Path) -> None:
    rows = [{"patient": f"p{n % 40}", "text": f"t{n}", "code": "A"} for n in range(400)]
    by_group = settings(jsonl(tmp_path / "all.jsonl", rows), split="", test_fraction=0.3, group="patient")
    few = settings(jsonl(tmp_path / "few.jsonl", rows[:200]), split="", test_fraction=0.3, group="patient")
    whole = plan("{patient} {note}")
    sides = {name: {r.values["patient"] for r in getattr(read_records(by_group, whole), name)} for name in ("train", "test")}
    assert not sides["train"] & sides["test"]
    assert len(sides["test"]) == pytest.approx(12, abs=7)
    assert {r.values["patient"] for r in read_records(few, whole).test} == sides["test"]


def test_split_column_may_not_divide_a_group(tmp_path: Path) -> None:
    rows = [{"patient": "p", "text": "t", "code": "A", "split": split} for split in ("train", "val", "test")]
    with pytest.raises(RecordError, match="line 3: a test record whose group has a train one at"):
        read_records(settings(jsonl(tmp_path / "r.jsonl", rows), group="patient"), plan())


def test_template_is_checked_before_any_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"records\.prompt asks for \{note\.text\}"):
        read_records(settings(tmp_path / "absent.jsonl"), plan("{note.text}"))


def test_fields_of_a_chat_plan_are_its_messages() -> None:
    assert plan_fields(RecordTemplates(messages="chat")) == ("chat",)
    assert plan_fields(RecordTemplates(prompt="{a} {b}", target="{c} {a}")) == ("a", "b", "c")
