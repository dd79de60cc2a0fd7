"""What a dialect has to say of its endpoint: the request's body, and what each choice of an event carries."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ANSWER", "NOTHING", "STRINGS", "THINKING", "Dialect", "Parts", "by_text"]

NOTHING, THINKING, ANSWER = 0, 1, 2  # what an event with a choice carries
Parts = NDArray[np.uint8]  # one of these an event

# the inside of a JSON string, lone surrogates left out as the decoder does; NUL stands between strings checked together
_ESCAPE = (
    rb'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})'
)
# possessive (++, *+): with a way back kept for each character, a text of 10 MB takes seconds and a gigabyte
STRINGS = re.compile(rb'(?:[^"\\\x01-\x1f]++|' + _ESCAPE + rb")*+")


def by_text(*names: bytes) -> re.Pattern[bytes]:
    """An event whose text stands behind one of these keys; groups: the key with its quotes and colon, the text."""
    keys = b"|".join(b'"%b":"' % name for name in names)
    return re.compile(rb"^data: \{[^\n]*?(" + keys + rb')((?:[^"\\\x00-\x1f]++|' + _ESCAPE + rb')*+)"')


class Dialect(ABC):
    """One endpoint. `event`: what most of a stream's events look like, as `by_text` makes it."""

    name: ClassVar[str]
    path: ClassVar[str]  # of the URL
    prompt_key: ClassVar[str]
    event: ClassVar[re.Pattern[bytes]]
    text_alone: ClassVar[bool]  # it takes no token ids
    tells_thinking: ClassVar[bool]  # its events say whether they belong to the answer or to what comes before it

    def body(self, fields: Mapping[str, Any], prompt: bytes) -> bytes:
        """A request's JSON; `prompt` is JSON already, as `prompt_of` makes it or a list of ids."""
        return json.dumps(fields)[:-1].encode() + b', "%b": %b}' % (self.prompt_key.encode(), prompt)

    @abstractmethod
    def prompt_of(self, text: str, messages: Sequence[Mapping[str, Any]] = ()) -> bytes:
        """A prompt of this text as JSON; of these messages where the endpoint takes some and there are any."""

    @abstractmethod
    def said(self, choice: dict[str, Any]) -> tuple[int, str]:
        """What a choice carries, and as what text. Raises what a choice of another shape makes it raise."""

    @abstractmethod
    def template(self, choice: dict[str, Any], key: bytes) -> int | None:
        """What events like this one carry, which differ from it in the text behind `key` alone; None where that is
        not the only thing in them that could carry something.
        """

    @abstractmethod
    def token_events(self, parts: Parts, tokens: int) -> NDArray[np.bool_]:
        """Which events stand for tokens, of an answer of so many tokens (-1: not known); shape of `parts`."""
