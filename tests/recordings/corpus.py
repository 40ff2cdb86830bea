"""The recorded chat exchanges.

They are not part of the project: `GEMINI_WIRE_DIR` names the folder; by default it is looked
for beside the checkout.
"""

import copy
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.replay_server import chunks_of

FOLDER = Path(
    os.environ.get("GEMINI_WIRE_DIR", Path(__file__).parents[3] / "shared" / "gemini-wire" / "open")
)
CHAT_METHODS = frozenset({"generateContent", "streamGenerateContent"})
# Where a recording does not name its model.
USUAL_MODEL = "gemini-2.5-flash"
OK = 200


@dataclass(frozen=True)
class Recording:
    """One exchange.

    Attributes:
        name: its file's name, without the ending; ends with the key.
        data: the file's content.
    """

    name: str
    data: dict[str, Any]

    @property
    def key(self) -> str:
        """Its short id."""
        return self.name.rpartition("-")[2]

    @property
    def model(self) -> str:
        """The model that was asked."""
        model = str(self.data["path"]).rpartition("/models/")[2].partition(":")[0]
        return USUAL_MODEL if model == "unknown" else model

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.data["status"])

    @property
    def is_stream(self) -> bool:
        """Whether it was recorded as a stream."""
        return self.data.get("response_sse") is not None

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """What Gemini answered: the chunks of a stream, or the one whole answer."""
        return chunks_of(self.data)

    def parts(self) -> list[dict[str, Any]]:
        """Return all parts of the answer, in order."""
        return [part for chunk in self.chunks for part in parts_of(chunk)]

    def merged(self) -> dict[str, Any]:
        """Return a stream as the whole answer that `generateContent` would have given."""
        whole: dict[str, Any] = {}
        candidate: dict[str, Any] = {}
        for chunk in copy.deepcopy(self.chunks):
            for piece in chunk.pop("candidates", None) or ():
                parts = (piece.pop("content", None) or {}).get("parts") or []
                if parts:
                    candidate.setdefault("content", {"role": "model", "parts": []})
                    candidate["content"]["parts"] += parts
                candidate |= {key: value for key, value in piece.items() if value != {}}
            whole |= chunk
        return whole | ({"candidates": [candidate]} if candidate else {})


def parts_of(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of one chunk's first candidate."""
    candidates = chunk.get("candidates") or [{}]
    return (candidates[0].get("content") or {}).get("parts") or []


@cache
def chat_recordings() -> tuple[Recording, ...]:
    """Return every recorded chat exchange; none where there is no folder."""
    found = [
        Recording(path.stem, json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))
    ]
    return tuple(
        recording
        for recording in found
        if str(recording.data["path"]).rpartition(":")[2] in CHAT_METHODS
    )


def each(recordings: list[Recording]) -> pytest.MarkDecorator:
    """Parametrize a test with recordings; it is skipped, saying so, where there are none."""
    params = [pytest.param(recording, id=recording.name) for recording in recordings]
    if not FOLDER.is_dir():
        why = pytest.mark.skip(reason=f"no recordings at {FOLDER}")
        params = [pytest.param(None, id="no-recordings", marks=why)]
    return pytest.mark.parametrize("recording", params)
