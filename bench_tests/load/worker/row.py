"""One finished request as the spool keeps it, packed without an array for each."""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["PACK", "ROW"]

# Moments in ns of CLOCK_REALTIME, 0: there is none.
ROW = np.dtype([
    ("kind", "<i8"), ("measured", "<i8"), ("http_status", "<i8"), ("due", "<i8"), ("send", "<i8"), ("first", "<i8"),
    ("last", "<i8"), ("end", "<i8"), ("number", "<i8"), ("asked_input", "<i8"), ("asked_output", "<i8"), ("input_tokens", "<i8"), ("output_tokens", "<i8"),
    ("cached_tokens", "<i8"), ("reasoning_tokens", "<i8"), ("events", "<i8"), ("moments", "<i8"), ("error", "<i8"), ("answer", "<i8"),
    ("session", "<i8"), ("turn", "<i8"), ("turns", "<i8"), ("history_tokens", "<i8"), ("shared_tokens", "<i8"),
    ("connect_s", "<f8"), ("lag_s", "<f8"), ("first_blur_s", "<f8"), ("last_blur_s", "<f8"), ("answer_blur_s", "<f8"),
])  # fmt: skip
PACK = struct.Struct("<24q5d").pack
