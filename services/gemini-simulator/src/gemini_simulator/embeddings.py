"""Embedding vectors made from the text: equal texts give equal vectors.

As recorded: gemini-embedding-001 shortens a unit vector, so a shorter one is not normalised;
gemini-embedding-2 normalises every length and alone reports usage.
"""

import hashlib
import math
from array import array
from collections import Counter
from typing import Any

from gemini_simulator.errors import ApiError, invalid_argument
from gemini_simulator.messages import BatchEmbedContentsRequest, EmbedContentRequest
from gemini_simulator.models import Model
from gemini_simulator.prompt import count_contents, details

_MAX_BATCH = 100
_HALF_RANGE = 2**15


def embed(request: EmbedContentRequest, model: Model) -> dict[str, Any]:
    """Answer `embedContent`."""
    return {"embedding": _embedding(request, model)} | _usage([request], model)


def embed_batch(request: BatchEmbedContentsRequest, model: Model) -> dict[str, Any]:
    """Answer `batchEmbedContents`.

    Raises:
        ApiError: 400 for no requests, too many, or one for another model.
    """
    name = "* BatchEmbedContentsRequest.requests"
    if not request.requests:
        raise invalid_argument(f"{name}: requests is not specified\n")
    if len(request.requests) > _MAX_BATCH:
        raise invalid_argument(f"{name}: at most {_MAX_BATCH} requests can be in one batch\n")
    for index, entry in enumerate(request.requests):
        if entry.model != f"models/{model.name}":
            raise invalid_argument(
                f"{name}[{index}].model: must be the model of the batch, models/{model.name}\n"
            )
    embeddings = [_embedding(entry, model) for entry in request.requests]
    return {"embeddings": embeddings} | _usage(request.requests, model)


def _embedding(request: EmbedContentRequest, model: Model) -> dict[str, list[float]]:
    if request.content is None or not request.content.parts:
        raise ApiError(400, "* EmbedContentRequest.content: content is not specified\n")
    wanted = request.output_dimensionality or model.dimensions
    if not 1 <= wanted <= model.dimensions:
        raise invalid_argument(
            f"* EmbedContentRequest.output_dimensionality: must be from 1 to {model.dimensions}\n"
        )
    seed = "\n".join(
        part.text or (part.inline_data.data if part.inline_data else "")
        for part in request.content.parts
    )
    numbers = array("H", hashlib.shake_256(seed.encode()).digest(2 * model.dimensions))
    values = [number - _HALF_RANGE + 0.5 for number in numbers]
    basis = values[:wanted] if model.name == "gemini-embedding-2" else values
    norm = math.sqrt(sum(value * value for value in basis))
    return {"values": [round(value / norm, 9) for value in values[:wanted]]}


def _usage(requests: list[EmbedContentRequest], model: Model) -> dict[str, Any]:
    if model.name != "gemini-embedding-2":
        return {}
    count: Counter[str] = Counter()
    for request in requests:
        count += count_contents([request.content] if request.content else [])
    usage = {"promptTokenCount": count.total(), "promptTokenDetails": details(count)}
    return {"usageMetadata": usage}
