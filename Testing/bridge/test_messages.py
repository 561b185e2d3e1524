"""Messages arrive whole, however they are cut; what is none is told from them."""

from __future__ import annotations

import numpy as np
import pytest
from AmbiguousSegBridge.worker import messages

SENT = [{"type": "a", "text": 'é "\n\r\\'}, {"type": "b", "values": [1, 2.5, None, True]}, {"type": "c"}]


def test_a_message_is_one_line_of_ascii():
    line = messages.encode(SENT[0])
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and b"\r" not in line and max(line) < 128
    assert messages.decode(line) == SENT[0]


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_put_together_from_any_pieces(seed):
    data = b"".join(map(messages.encode, SENT * 5)).replace(b"\n", b"\r\n" if seed % 2 else b"\n")
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(data) + 1, 12)).tolist()
    lines = messages.Lines()
    got = [line for start, end in zip([0, *cuts], [*cuts, len(data)]) for line in lines.feed(data[start:end])]
    assert [messages.decode(line) for line in got] == SENT * 5


def test_an_incomplete_line_waits():
    lines = messages.Lines()
    assert lines.feed(b'{"type":') == [] and lines.feed(b"") == []
    assert lines.feed(b'"a"}\n\n\n{"t') == [b'{"type":"a"}']
    assert lines.feed(b'ype":"b"}\n') == [b'{"type":"b"}']


@pytest.mark.parametrize(
    "line", [b"Hello", b"[1, 2]", b"3", b'{"kind": "a"}', b'{"type": 1}', b"\xff\xfe", b"{", b"[" * 100_000]
)
def test_what_is_no_message_is_refused_and_quoted(line):
    with pytest.raises(messages.NotAMessage, match="Expected a JSON object") as caught:
        messages.decode(line)
    quoted = str(caught.value).split("got: ")[1]
    assert quoted == line.decode("utf-8", "replace")[:200]


def test_a_line_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(messages, "LONGEST_LINE", 1000)
    lines = messages.Lines()
    assert lines.feed(b"x" * 600) == []
    with pytest.raises(messages.NotAMessage, match="x{200}$"):
        lines.feed(b"x" * 600)


def test_other_than_plain_types_are_refused():
    with pytest.raises(TypeError):
        messages.encode({"type": "a", "value": np.int64(3)})


JOB = {"type": "job", "job": 1, "folder": "/f", "kind": "sample", "arguments": {}}


@pytest.mark.parametrize("request_", [JOB, {"type": "folder", "folder": "/f"}, {"type": "cancel", "job": 1}])
def test_a_request_with_all_its_parts_is_read(request_):
    assert messages.decode_request(messages.encode(request_)) == request_


@pytest.mark.parametrize(
    "request_",
    [
        {"type": "x"},
        *({key: value for key, value in JOB.items() if key != left_out} for left_out in JOB),
        *(JOB | {key: value} for key, value in (("job", "x"), ("job", True), ("folder", 7), ("kind", []))),
        *(JOB | {"arguments": value} for value in ([], None, "x")),
        *({"type": "cancel", "job": value} for value in ([], "x", None)),
        {"type": "folder", "folder": 7},
    ],
)
def test_a_request_that_lacks_a_part_is_no_message(request_):
    with pytest.raises(messages.NotAMessage, match="with a type and its parts"):
        messages.decode_request(messages.encode(request_))
