import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import RecordError
from client.template import parse_template


def test_fields_and_doubled_braces_are_put_in() -> None:
    template = parse_template("{{note}}: {note}\n{second field}{note}", "records.prompt")
    assert template.fields == ("note", "second field", "note")
    assert template.render({"note": "n", "second field": "s"}) == "{note}: n\nsn"


@given(st.text())
def test_value_is_never_expanded_again(value: str) -> None:
    assert parse_template("<{a}|{b}>", "records.prompt").render({"a": value, "b": "{a}"}) == f"<{value}|{{a}}>"


@given(st.text())
def test_escaped_text_stands_for_itself(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert parse_template(escaped, "records.prompt").render({}) == text


@pytest.mark.parametrize(
    "text",
    ["{note.__class__}", "{note[0]}", "{note!r}", "{note:>10}", "{}", "{ note}", "{note()}", "{note", "note}", "{a{b}}", "{{{note", "{a}}"],
)
def test_more_than_a_field_is_refused_and_the_template_named(text: str) -> None:
    with pytest.raises(RecordError, match=r"records\.prompt"):
        parse_template(text, "records.prompt")
