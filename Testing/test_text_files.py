"""JSON and YAML that is too large, too deep, too much or not what it seems."""

from __future__ import annotations

import json
import os

import pytest

from AmbiguousSegLib.resources import bundled_presets
from AmbiguousSegLib.text_files import parse_json, parse_yaml, read_bytes, read_json, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij")
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{n}: &{n} {{<<: [{', '.join([f'*{o}'] * 9)}]}}\n" for o, n in zip("abcdefgh", "bcdefghi")
)


def one_line(error):
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LAUGHS, "an anchor repeats another one, line 2, column 8"),
        (MERGES, "an anchor repeats another one"),
        ("a: &a [*a]", "an anchor repeats another one"),
        ("a: &a [" + "1, " * 99 + "1]\nb: [" + "*a, " * 150 + "*a]", "it makes more than 10,000 values"),
        ("a: [" + "1, " * 10_001 + "1]", "it makes more than 10,000 values"),
        ("[" * 100_000, "it is nested more than 16 deep, line 1, column 18"),
        ("{a: " * 50, "it is nested more than 16 deep"),
        ("- " * 5000, "it is nested more than 16 deep"),
        ("a: " + "1:" * 20_000 + "1", "a value has 40,001 characters; put text in quotes"),
        ("a: " + "9" * 9_000, "cannot be read as YAML: Exceeds the limit"),
        ("a: 1\nb: 2\na: 3", "the key 'a' occurs twice, line 3, column 1"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "but found another document, line 2"),
        ("a: [1, 2", "expected ',' or ']'"),
        ("a: \x00", "special characters are not allowed"),
        ("a: 2024-99-99", "month must be in 1..12"),
        (b"a: \xff\xfe", "it is not UTF-8 (byte 3)"),
        ("&" * 100_000, "cannot be read as YAML"),
        ("*" + "a" * 50_000, "undefined alias"),
    ],
)
def test_yaml_that_is_refused(tmp_path, text, told):
    file = tmp_path / "c.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="c.yaml cannot be read as YAML") as caught:
        read_yaml(file)
    assert told in str(caught.value)
    one_line(caught)


def test_anchors_that_people_write_are_read():
    text = "size: &size [64, 64]\ndataset: {size: *size}\nbase: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\n"
    assert parse_yaml(text, "it") == {
        "size": [64, 64],
        "dataset": {"size": [64, 64]},
        "base": {"a": 1, "b": 2},
        "own": {"a": 1, "b": 3},
    }


def test_every_preset_is_read_as_pyyaml_reads_it():
    yaml = pytest.importorskip("yaml")
    presets = bundled_presets()
    assert presets
    for file in presets.values():
        assert read_yaml(file) == yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 1_000_000, "is nested more than 16 deep"),
        ('{"a":' * 200_000, "is nested more than 16 deep"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice in one object"),
        ('{"a": 1', "is not valid JSON: Expecting ',' delimiter: line 1 column 8"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1' + "0" * 9000 + "}", "is not valid JSON: Exceeds the limit"),
        (b'{"a": "\xff"}', "is not UTF-8 (byte 7)"),
        ("", "is not valid JSON"),
    ],
)
def test_json_that_is_refused(tmp_path, text, told):
    file = tmp_path / "c.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="c.json is n") as caught:
        read_json(file)
    assert told in str(caught.value)
    one_line(caught)


def test_json_that_is_read(tmp_path):
    content = {"brackets": '[[[["\\"[' * 9, "deep": [[[[[[[[{"a": 1}]]]]]]]], "umlaut": "ä"}
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content, ensure_ascii=False).encode())
    assert read_json(tmp_path / "c.json") == content
    assert parse_json('{"a": Infinity}', "it", nan=True) == {"a": float("inf")}


def test_what_is_too_large_or_no_file_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "c.yaml", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="is larger than 1 MB, the most that is read"):
        read_yaml(tmp_path / "c.yaml")
    with pytest.raises(ValueError, match="is larger than 16 MB"):
        read_json(tmp_path / "c.yaml")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="is a folder"):
        read_bytes(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="is a FIFO"):
            read_yaml(tmp_path / "pipe")
