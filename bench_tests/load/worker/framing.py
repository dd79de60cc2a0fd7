"""Where an HTTP/1.1 answer ends: by chunks, by length, or by the end of the connection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNKED", "HEAD", "WHOLE", "BadFraming", "Framing"]

MAX_HEAD = 1 << 16
HEAD, CHUNKED, LENGTH, UNTIL_CLOSE, WHOLE = range(5)


class BadFraming(Exception):
    """What came is not an HTTP/1.1 answer."""


class Framing:
    """Follows one answer through a growing buffer; `feed` says when it is whole.

    `edges` are the start and end offsets of the body's bytes in the buffer, one row a chunk, once it is whole.
    """

    __slots__ = ("_edges", "body_end", "body_start", "headers", "keep_alive", "mode", "pos", "spans", "status")

    def __init__(self) -> None:
        self.mode = HEAD
        self.pos = 0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.keep_alive = True
        self.body_start = 0
        self.body_end = 0
        self.spans: list[tuple[int, int]] = []
        self._edges: NDArray[np.int64] | None = None  # of an answer that was there to its end: no spans then

    @property
    def edges(self) -> NDArray[np.int64]:
        """Start and end of each chunk in the buffer; shape (chunks, 2)."""
        if self._edges is not None:
            return self._edges
        return np.array(self.spans or [(self.body_start, self.body_start)], np.int64)

    def body(self, raw: bytearray) -> bytes:
        """What is within the edges: the answer's body without its framing."""
        return b"".join([raw[start:end] for start, end in self.edges.tolist()])

    @property
    def has_body(self) -> bool:
        """Whether anything of a body was found so far."""
        return self._edges is not None or bool(self.spans)

    def feed(self, raw: bytearray) -> bool:
        """Look at what is new in `raw`; True when the answer is whole. Raises BadFraming."""
        if self.mode == HEAD and not self._head(raw):
            return False
        if self.mode == CHUNKED:
            return self._chunks(raw)
        if self.mode == LENGTH:
            if len(raw) < self.body_end:
                return False
            self._whole(self.body_start, self.body_end)
        return self.mode == WHOLE

    def closed(self, raw: bytearray) -> bool:
        """The connection ended; True when that ends the answer, False when it cuts it off."""
        if self.mode == UNTIL_CLOSE:
            self._whole(self.body_start, len(raw))
        return self.mode == WHOLE

    def _whole(self, start: int, end: int) -> None:
        self.spans = [(start, end)]
        self.pos = end
        self.mode = WHOLE

    def _head(self, raw: bytearray) -> bool:
        while True:
            end, line_end = raw.find(b"\r\n\r\n", self.pos), b"\r\n"
            bare = raw.find(b"\n\n", self.pos, end if end >= 0 else len(raw))
            if bare >= 0:  # lines that end by LF alone; HTTP has clients take them
                end, line_end = bare, b"\n"
            if raw[self.pos : self.pos + 5] != b"HTTP/"[: max(0, len(raw) - self.pos)]:
                raise BadFraming(f"not HTTP: {bytes(raw[self.pos : self.pos + 40])!r}")
            if end < 0:
                if len(raw) - self.pos > MAX_HEAD:
                    raise BadFraming(f"headers beyond {MAX_HEAD} bytes")
                return False
            first, _, rest = bytes(raw[self.pos : end]).partition(line_end)
            words = first.split(None, 2)
            if len(words) < 2 or not words[1].isdigit() or len(words[1]) != 3:
                raise BadFraming(f"status line {first[:60]!r}")
            self.pos = self.body_start = end + 2 * len(line_end)
            if words[1][:1] != b"1":  # 1xx: the real answer follows
                break
        self.status = int(words[1])
        for line in rest.split(line_end):
            name, colon, value = line.partition(b":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()
        self.keep_alive = (
            words[0] == b"HTTP/1.1" and self.headers.get(b"connection", b"").lower() != b"close"
        ) or self.headers.get(b"connection", b"").lower() == b"keep-alive"
        length = self.headers.get(b"content-length")
        codings = [c.strip() for c in self.headers.get(b"transfer-encoding", b"").lower().split(b",")]
        codings = [c for c in codings if c not in (b"", b"identity")]
        if codings not in ([], [b"chunked"]):
            said = self.headers[b"transfer-encoding"][:60].decode("latin-1")
            raise BadFraming(f"transfer-encoding {said}, of which only chunked was asked")
        if codings:
            self.mode = CHUNKED
        elif length is not None or self.status in (204, 304):
            if length is not None and not (length.isdigit() and len(length) < 16):
                raise BadFraming(f"content-length {length[:40]!r}")
            self.mode = LENGTH
            self.body_end = self.body_start + int(length or 0)
        else:
            self.mode = UNTIL_CLOSE
            self.keep_alive = False
        return True

    def _chunks(self, raw: bytearray) -> bool:
        if not self.spans and raw.endswith(b"\r\n0\r\n\r\n") and self._all_chunks(raw):
            return True
        pos, spans, size_of = self.pos, self.spans, len(raw)
        try:
            while True:
                line_end = raw.find(b"\r\n", pos, pos + 4096)
                if line_end < 0:
                    if size_of - pos > 4096:
                        raise BadFraming("a chunk's size line beyond 4096 bytes")
                    return False
                digits = raw[pos:line_end]
                size = int(digits.split(b";", 1)[0] if b";" in digits else digits, 16)
                start = line_end + 2
                if size <= 0:
                    if size < 0:
                        raise BadFraming(f"chunk size {bytes(digits)!r}")
                    end = start + 2 if raw[start : start + 2] == b"\r\n" else raw.find(b"\r\n\r\n", start) + 4
                    if end < 4 or end > size_of:
                        return False
                    pos = end
                    self.mode = WHOLE
                    return True
                end = start + size
                if end + 2 > size_of:
                    return False
                if raw[end : end + 2] != b"\r\n":
                    raise BadFraming("a chunk that does not end where its size says")
                spans.append((start, end))
                pos = end + 2
        except ValueError as why:
            raise BadFraming(f"chunk size {bytes(raw[pos : pos + 20])!r}") from why
        finally:
            self.pos = pos

    def _all_chunks(self, raw: bytearray) -> bool:
        """All chunks of an answer that is there to its end, in a few calls; False where a chunk has CRLFs inside."""
        lines = raw[self.pos : len(raw) - 7].split(b"\r\n")
        if len(lines) % 2:
            return False
        sizes = lines[0::2]
        try:
            asked = [int(size, 16) for size in sizes]
        except ValueError:
            return False
        got = list(map(len, lines[1::2]))
        if asked != got:
            return False
        heads = np.fromiter(map(len, sizes), np.int64, len(sizes))
        lengths = np.array(got, np.int64)
        ends = self.pos + np.cumsum(heads + lengths + 4) - 2
        self._edges = np.stack((ends - lengths, ends), axis=1)
        self.pos = len(raw)
        self.mode = WHOLE
        return True
