"""OpenAI's embedding requests and answers, against Gemini's vectors. Pure functions.

OpenAI's API reference, "Create embeddings"; Gemini's at
https://ai.google.dev/gemini-api/docs/embeddings.
"""

import base64
import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.interfaces import EmbedOptions
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.translation.nested import convert_at, google_member
from ai_proxy_service.translation.openai_types import AccountName
from service_kit.body import decode_body

INPUTS_MAX = 2048
# A unit vector in 32-bit floats is this close to length 1. Nearer is not worth a division.
UNIT_TOLERANCE = 1e-6
# Gemini puts a few tokens of its own around a text.
TEXT_ALLOWANCE_TOKENS = 8
# What a token of usual text takes, where nothing better is known.
BYTES_PER_TOKEN = 4

EncodingFormat = Literal["float", "base64"]
TaskType = Literal[
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
]


# More than any model has; it has to fit Gemini's 32-bit field.
Dimensions = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class EmbeddingRequest(msgspec.Struct):
    """The body of `POST /v1/embeddings`; `null` counts as absent, unknown fields are ignored."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: EncodingFormat | None = None
    dimensions: Dimensions | None = None
    user: AccountName | None = None
    user_id: AccountName | None = None
    google: dict[str, Any] | None = None
    extra_body: dict[str, Any] | None = None


class EmbeddingGoogleOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Google's own options; names may be in camel case, too."""

    task_type: TaskType | None = None


_DECODER = msgspec.json.Decoder(EmbeddingRequest)


def parse_embeddings(body: bytes) -> EmbeddingRequest:
    """Decode and check an embedding request.

    Raises:
        InvalidBodyError: malformed, or a field of the wrong type or range.
        InvalidRequestError: there is nothing to embed, too much, or it comes as tokens.
    """
    request = decode_body(body, _DECODER)
    texts_of(request)
    return request


def texts_of(request: EmbeddingRequest) -> list[str]:
    """Return the texts to embed, in order.

    Tokens are refused: they are of a vocabulary of OpenAI's that the request does not name,
    and a wrong guess would embed another text.

    Raises:
        InvalidRequestError: there is nothing to embed, too much, or it comes as tokens.
    """
    given = request.input
    items = [given] if isinstance(given, str) else given
    if not items:
        raise _invalid("the array is empty")
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise InvalidRequestError(
            "Arrays of tokens can't be embedded, as they are not Gemini's: send text. In "
            "LangChain, set check_embedding_ctx_length=False in OpenAIEmbeddings.",
            code="unsupported_value",
            field="input",
        )
    if len(texts) > INPUTS_MAX:
        raise _invalid(f"the array has {len(texts)} items; the most is {INPUTS_MAX}")
    for index, text in enumerate(texts):
        if not text:
            where = "the string" if isinstance(given, str) else f"the string at index {index}"
            raise _invalid(f"{where} is empty")
    return texts


def _invalid(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid 'input': {why}.", field="input")


def embed_options(request: EmbeddingRequest) -> EmbedOptions:
    """Return how the texts are to be embedded.

    Raises:
        InvalidRequestError: one of Google's options is not known, or has a wrong value.
    """
    where, given = google_member(request.google, request.extra_body)
    if not isinstance(given, dict):
        if given is None:
            return EmbedOptions(dimensions=request.dimensions)
        raise InvalidRequestError(f"Invalid value for '{where}'.", code="invalid_type", field=where)
    renamed = {("task_type" if name == "taskType" else name): given[name] for name in given}
    if isinstance(renamed.get("task_type"), str):
        renamed["task_type"] = renamed["task_type"].upper()
    options = convert_at(where, renamed, EmbeddingGoogleOptions)
    return EmbedOptions(dimensions=request.dimensions, task_type=options.task_type)


def count_body(texts: Sequence[str]) -> dict[str, Any]:
    """Return the contents with which the tokens of texts are counted."""
    return {"contents": [{"role": "user", "parts": [{"text": text}]} for text in texts]}


def bound_tokens(texts: Sequence[str], text_tokens_max: int) -> int:
    """Return an upper bound on the tokens of texts, without a call.

    Args:
        texts: what is to be embedded.
        text_tokens_max: how much the model reads of one text; the rest is not charged.
    """
    return sum(
        min(len(text.encode(errors="replace")) + TEXT_ALLOWANCE_TOKENS, text_tokens_max)
        for text in texts
    )


def estimated_tokens(texts: Sequence[str], text_tokens_max: int) -> int:
    """Return how many tokens texts have, roughly, where Gemini does not say; at least one each."""
    return sum(
        min(-(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN), text_tokens_max)
        for text in texts
    )


def normalised(vector: Sequence[float]) -> Sequence[float]:
    """Return a vector at length 1: Gemini's are not where they were shortened."""
    length = math.hypot(*vector)
    if length == 0 or abs(length - 1) <= UNIT_TOLERANCE:
        return vector
    return [value / length for value in vector]


def embeddings_body(
    model: str,
    vectors: Sequence[Sequence[float]],
    encoding_format: EncodingFormat | None,
    prompt_tokens: int,
    cost_nanos: int,
) -> bytes:
    """Return the encoded answer.

    Takes about 0.7 ms a vector of 3,072: hundreds of them belong in a thread.

    Args:
        model: the name that was asked for.
        vectors: one a text, as Gemini gave them.
        encoding_format: what was asked for; None means float.
        prompt_tokens: what is charged.
        cost_nanos: what that cost, in nano-USD.
    """
    data = [
        {"object": "embedding", "embedding": _encoded(vector, encoding_format), "index": index}
        for index, vector in enumerate(vectors)
    ]
    usage = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens,
        "cost": usd_text(cost_nanos),
    }
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def _encoded(vector: Sequence[float], encoding_format: EncodingFormat | None) -> str | list[float]:
    # Both forms have the precision of 32 bits, so that they give the client the same numbers.
    layout = f"<{len(vector)}f"
    packed = struct.pack(layout, *normalised(vector))
    if encoding_format == "base64":
        return base64.b64encode(packed).decode("ascii")
    return list(struct.unpack(layout, packed))
