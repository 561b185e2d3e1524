"""Messages arrive whole, however they are cut; what is none is told from them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from AmbiguousSegBridge.worker import messages
from AmbiguousSegBridge.worker.messages import (
    FROM_WORKER,
    TO_WORKER,
    Cancel,
    Cancelled,
    Failed,
    Failure,
    Finished,
    Folder,
    MaskFile,
    Progress,
    Ready,
    Sample,
    Start,
)

from AmbiguousSegLib.hardware import Device

TO = [Folder(3, 'é "\n\r\\'), Start(3, "sample", {"values": [1, 2.5, None, True], "more": {}}), Cancel(3)]
FROM = [
    Ready(messages.PROTOCOL, 77, "3.12", "2.8", (Device("cpu", "CPU", None), Device("mps", "GPU", 5)), "Fast."),
    Progress(1, 0.5, None, 3, 2, 1, 0),
    Sample(1, 4, MaskFile("a.npy", (1, 2, 3), (4, 5, 6))),
    Finished(1, {"file": "answer.npy"}),
    Cancelled(1),
    Failed(None, Failure("internal", "Bad.", "Good.", "trace\nback"), True),
]


def test_each_kind_is_tried_below():
    assert {type(message) for message in TO} == set(TO_WORKER)
    assert {type(message) for message in FROM} == set(FROM_WORKER)


@pytest.mark.parametrize(("message", "kinds"), [*((m, TO_WORKER) for m in TO), *((m, FROM_WORKER) for m in FROM)])
def test_a_message_is_one_line_of_ascii_and_comes_back(message, kinds):
    line = messages.encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and b"\r" not in line and max(line) < 128
    assert messages.decode(line, kinds) == message
    with pytest.raises(messages.NotAMessage, match="unknown type"):  # what the other side says is not for this one
        messages.decode(line, FROM_WORKER if kinds is TO_WORKER else TO_WORKER)


OTHER_VALUES = [None, True, 1, 2.5, "x", [], [1], {}, {"a": 1}, -(2**70), float("nan")]


@pytest.mark.parametrize(("message", "kinds"), [*((m, TO_WORKER) for m in TO), *((m, FROM_WORKER) for m in FROM)])
def test_whatever_a_key_holds_it_is_read_as_declared_or_refused(message, kinds):
    """Every key, left out or of any other value: never another exception, never a field of another type."""
    content, refused = json.loads(messages.encode(message)), 0
    types = {str: str, int: int, float: (int, float), bool: bool}
    for key in content.keys() - {"type"}:
        changed = [{k: v for k, v in content.items() if k != key}, *({**content, key: value} for value in OTHER_VALUES)]
        for change in changed:
            try:
                read = messages.decode(json.dumps(change).encode(), kinds)
            except messages.NotAMessage:
                refused += 1
                continue
            for field in dataclasses.fields(read):
                plain = {"str": str, "int": int, "float": float, "bool": bool}.get(field.type)
                value = getattr(read, field.name)
                assert plain is None or (isinstance(value, types[plain]) and (plain is bool) == isinstance(value, bool))
    assert refused >= 5 * (len(content) - 1)
    with pytest.raises(messages.NotAMessage, match="Unknown key .*more"):
        messages.decode(json.dumps({**content, "more": 1}).encode(), kinds)


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_put_together_from_any_pieces(seed):
    data = b"".join(map(messages.encode, TO * 5)).replace(b"\n", b"\r\n" if seed % 2 else b"\n")
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(data) + 1, 12)).tolist()
    lines = messages.Lines()
    got = [line for start, end in zip([0, *cuts], [*cuts, len(data)]) for line in lines.feed(data[start:end])]
    assert [messages.decode(line, TO_WORKER) for line in got] == TO * 5


def test_an_incomplete_line_waits():
    lines = messages.Lines()
    assert lines.feed(b'{"type":') == [] and lines.feed(b"") == []
    assert lines.feed(b'"a"}\n\n\n{"t') == [b'{"type":"a"}']
    assert lines.feed(b'ype":"b"}\n') == [b'{"type":"b"}']


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"Hello",
            b"[1, 2]",
            b"3",
            b"null",
            b'{"job": 1}',
            b'{"type": 1}',
            b'{"type": ["cancel"]}',
            b"\xff\xfe",
            b"{",
        ),
        *(b"", b"[" * 100_000, b'{"type":"cancel","job":' + b"9" * 5000 + b"}", b'{"type":"cancel","job":1}x'),
    ],
)
def test_what_is_no_message_is_refused_and_quoted(line):
    with pytest.raises(messages.NotAMessage, match="Expected a message in one line of JSON") as caught:
        messages.decode(line, TO_WORKER)
    quoted = str(caught.value).split("got: ")[1]
    assert quoted == line.decode("utf-8", "replace")[:200] and len(str(caught.value)) < 500


@pytest.mark.parametrize("data", [[b"x" * 600] * 2, [b"x" * 1200], [b"x" * 1200 + b"\n"], [b"{}\n" + b"x" * 1200]])
def test_a_line_that_is_too_long_is_given_up(monkeypatch, data):
    monkeypatch.setattr(messages, "LONGEST_LINE", 1000)
    lines = messages.Lines()
    with pytest.raises(messages.NotAMessage, match="x{200}$"):
        for piece in data:
            lines.feed(piece)


def test_more_than_the_other_side_reads_is_not_sent(monkeypatch):
    monkeypatch.setattr(messages, "LONGEST_LINE", 1000)
    with pytest.raises(ValueError, match="too much for one message"):
        messages.encode(Start(1, "modes", {"masks": "x" * 1000}))


def test_other_than_plain_types_are_refused():
    with pytest.raises(TypeError):
        messages.encode(Finished(1, {"value": np.int64(3)}))


def test_a_worker_of_another_version_is_told_from_garbage():
    """Whatever else has changed in what it says of itself."""
    line = b'{"type":"ready","protocol":1,"pid":77,"mood":"good"}'
    with pytest.raises(messages.OtherVersion):
        messages.decode(line, FROM_WORKER)


@pytest.mark.parametrize("file", ["", ".", "..", "../a.npy", "/a.npy", "a/b.npy", "a\\b.npy", "c:a.npy", "a\0.npy"])
def test_a_file_is_named_without_its_folder(file):
    line = json.dumps(
        {"type": "sample", "job": 1, "index": 0, "mask": {"file": file, "start": [0] * 3, "shape": [1] * 3}}
    )
    with pytest.raises(messages.NotAMessage, match="name of a file in the job's folder"):
        messages.decode(line.encode(), FROM_WORKER)
