"""Records stay readable: golden wire samples, schema versions and the exported JSON Schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from infra.schema_export import DIALECT, export_schemas, topic_schema
from schemas.codec import decode, encode
from schemas.enums import BreakerState, Scope
from schemas.envelope import SCHEMA_VERSION, Header
from schemas.errors import RecordError, StorageError
from schemas.json_schema import DECIMAL_PATTERN
from schemas.risk import BreakerChanged
from schemas.topics import CATALOGUE, RISK_BREAKER, TOPIC_BY_NAME, Topic, key_of
from tests.replay.wire_samples import COMMAND, FOLDER, has_every_field, record_types, samples

CASES = [
    pytest.param(topic.name, path, id=f"{topic.name}-{path.stem}")
    for topic in CATALOGUE
    for value in topic.values
    for path in samples(str(value.__struct_config__.tag))
]

every_sample = pytest.mark.parametrize(("topic", "path"), CASES)
every_topic = pytest.mark.parametrize("topic", [pytest.param(t, id=t.name) for t in CATALOGUE])


def test_every_record_type_has_a_sample_with_all_its_fields() -> None:
    missing = [
        tag
        for tag, record_type in record_types().items()
        if not any(has_every_field(path, record_type) for path in samples(tag))
    ]

    assert missing == [], f"`{COMMAND}` writes candidates; read them before you commit them"


def test_every_sample_belongs_to_a_record_type() -> None:
    tags = {path.name.split(".")[0] for path in FOLDER.iterdir()}

    assert tags - record_types().keys() == set(), (
        "a record type was removed or renamed: old logs still hold it, so keep it readable"
    )


@every_sample
def test_sample_decodes_as_its_record_type(topic: str, path: Path) -> None:
    record = decode(topic, path.read_bytes())

    assert record.__struct_config__.tag == path.name.split(".")[0]


@every_sample
def test_sample_of_this_version_encodes_to_the_same_bytes(topic: str, path: Path) -> None:
    wire = path.read_bytes().rstrip(b"\n")
    record = decode(topic, wire)

    if record.schema_version == SCHEMA_VERSION:
        assert encode(record) == wire
    else:
        assert decode(topic, encode(record)) == record


@every_sample
def test_sample_fits_the_exported_schema(topic: str, path: Path) -> None:
    validator = Draft202012Validator(topic_schema(TOPIC_BY_NAME[topic]))

    assert [error.message for error in validator.iter_errors(json.loads(path.read_bytes()))] == []


@every_sample
def test_record_of_a_newer_version_is_refused_by_its_version(topic: str, path: Path) -> None:
    newer = {**json.loads(path.read_bytes()), "schema_version": SCHEMA_VERSION + 1}

    with pytest.raises(RecordError) as caught:
        decode(topic, msgspec.json.encode(newer))

    assert caught.value.field == "schema_version"
    assert "upgrade" in caught.value.remedy


def test_record_without_a_version_is_of_version_1() -> None:
    assert Header().schema_version == 1, (
        "the default is what old logs left out; a newer version must be written by name"
    )


@every_topic
def test_exported_schema_is_a_valid_schema_that_stands_alone(topic: Topic) -> None:
    schema = topic_schema(topic)

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"urn:millrace:topic:{topic.name}"
    assert schema["title"] == topic.name
    assert len(schema["oneOf"]) == len(topic.values)
    assert {ref.removeprefix("#/$defs/") for ref in references(schema)} == schema["$defs"].keys()


@every_topic
def test_exported_schema_refuses_what_is_no_record_of_the_topic(topic: Topic) -> None:
    validator = Draft202012Validator(topic_schema(topic))

    assert not validator.is_valid({"type": "nonsense", "ts_event_ns": 1})
    assert not validator.is_valid([])


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [("101.25", True), ("-3", True), ("1E+2", True), ("NaN", False), ("1,5", False), ("", False)],
)
def test_exported_schema_takes_only_finite_decimals(text: str, is_valid: bool) -> None:
    validator = Draft202012Validator({"type": "string", "pattern": DECIMAL_PATTERN})

    assert validator.is_valid(text) is is_valid


def test_export_writes_one_file_for_each_topic_and_repeats_itself(tmp_path: Path) -> None:
    paths = export_schemas(tmp_path / "new" / "schemas")
    first = [path.read_bytes() for path in paths]

    assert [path.name for path in paths] == sorted(f"{t.name}.schema.json" for t in CATALOGUE)
    assert [json.loads(text)["title"] for text in first] == sorted(TOPIC_BY_NAME)
    assert [path.read_bytes() for path in export_schemas(tmp_path / "new" / "schemas")] == first


def test_export_into_a_file_says_what_to_do(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")

    with pytest.raises(StorageError, match="name a folder that can be written to"):
        export_schemas(blocked)


def references(schema: Any) -> set[str]:
    """Return every ``$ref`` within ``schema``."""
    if isinstance(schema, list):
        return set().union(*(references(item) for item in schema))
    if not isinstance(schema, dict):
        return set()
    found = set().union(*(references(value) for value in schema.values()))
    if isinstance(schema.get("$ref"), str):
        found.add(schema["$ref"])
    return found


def test_key_of_every_topic_is_made_of_fields_of_its_records() -> None:
    for topic in CATALOGUE:
        for field in topic.key.split("|"):
            having = [value for value in topic.values if field in value.__struct_fields__]
            assert having, f"no record on {topic.name} has the key {field}"
            if topic.is_compacted:
                assert len(having) == len(topic.values), f"a record on {topic.name} has no {field}"


def test_scopes_and_instances_have_keys_of_their_own() -> None:
    first = BreakerChanged(
        "e", 1, "c", "c", Scope.ACCOUNT, "a", BreakerState.HALTED, 1, "ann", "loss"
    )
    second = msgspec.structs.replace(first, scope_id="b")
    assert key_of(RISK_BREAKER, first) == "ACCOUNT|a"
    assert key_of(RISK_BREAKER, first) != key_of(RISK_BREAKER, second)
