"""Server-sent events: where one ends, and what its data is."""

from __future__ import annotations

import re

import orjson

__all__ = ["split_events"]

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")  # the two bytes of a CRLF are one line's end, never two
_LINE = re.compile(rb"\r\n|\r|\n")


def split_events(body: bytes) -> list[tuple[int, bytes]]:
    """The events of an SSE body: (offset behind the blank line that completes it, its data), comments left out.

    Lines end by LF, CRLF or CR, several data lines are joined by LF, as the standard has it. What follows the last
    blank line is no event.
    """
    events = []
    if b"\r" not in body:
        parts = body.split(b"\n\n")
        parts.pop()
        pos = 0
        for part in parts:
            pos += len(part) + 2
            if part[:6] == b"data: " and b"\n" not in part:
                events.append((pos, part[6:]))
            elif (data := _data(part)) is not None:
                events.append((pos, data))
        return events
    start = 0
    for blank in _BLANK_LINE.finditer(body):
        if (data := _data(body[start : blank.start()])) is not None:
            events.append((blank.end(), data))
        start = blank.end()
    return events


def _data(event: bytes) -> bytes | None:
    lines = []
    failed = False
    for line in _LINE.split(event):
        if line[:5] == b"data:":
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line[:6] == b"event:":
            failed = line[6:].strip() == b"error"
    if not lines:
        return None
    data = b"\n".join(lines)
    return _error(data) if failed else data


def _error(data: bytes) -> bytes:
    """The data of an event whose name says that it is an error, as one that says so itself."""
    try:
        said = orjson.loads(data)
    except ValueError:
        said = data.decode("utf-8", "replace")
    return data if isinstance(said, dict) and said.get("error") else orjson.dumps({"error": said or "no words"})
