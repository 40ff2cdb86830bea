"""Gemini's `batchEmbedContents`: request bodies and answers. Pure functions.

https://ai.google.dev/api/embeddings#method:-models.batchembedcontents
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ai_proxy_service.core.gemini import GeminiError, ModalityTokenCount
from ai_proxy_service.core.interfaces import Embeddings, EmbedOptions

TEXTS_PER_CALL = 100


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    # "Token" here and "Tokens" everywhere else.
    prompt_token_details: list[ModalityTokenCount] | None = None
    prompt_tokens_details: list[ModalityTokenCount] | None = None


class _Embedding(msgspec.Struct):
    values: list[float]


class _Batch(msgspec.Struct, rename="camel"):
    embeddings: list[_Embedding]
    # Only newer models report it.
    usage_metadata: _Usage | None = None


_BATCH = msgspec.json.Decoder(_Batch)


def embed_path(model: str) -> str:
    """Return the path of the method, relative to the API's version."""
    return f"models/{model}:batchEmbedContents"


def embed_requests(
    model: str, texts: Sequence[str], options: EmbedOptions
) -> Iterator[dict[str, Any]]:
    """Yield the bodies of the calls that embed all texts, in their order."""
    common: dict[str, Any] = {"model": f"models/{model}"}
    if options.dimensions is not None:
        common["outputDimensionality"] = options.dimensions
    if options.task_type is not None:
        common["taskType"] = options.task_type
    for start in range(0, len(texts), TEXTS_PER_CALL):
        yield {
            "requests": [
                {**common, "content": {"parts": [{"text": text}]}}
                for text in texts[start : start + TEXTS_PER_CALL]
            ]
        }


def decode_embeddings(data: bytes, texts_count: int) -> Embeddings:
    """Read the answer to one call.

    Args:
        data: the body of an answer with status 200.
        texts_count: how many texts the call had.

    Raises:
        GeminiError: it is not what Gemini documents, or vectors are missing.
    """
    try:
        batch = _BATCH.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GeminiError(502, "MALFORMED", f"unreadable answer: {error}") from error
    vectors = [embedding.values for embedding in batch.embeddings]
    if len(vectors) != texts_count or not all(vectors):
        found = sum(1 for vector in vectors if vector)
        raise GeminiError(502, "MALFORMED", f"{found} vectors for {texts_count} texts")
    return Embeddings(vectors, _prompt_tokens(batch.usage_metadata))


def _prompt_tokens(usage: _Usage | None) -> int | None:
    if usage is None:
        return None
    if usage.prompt_token_count is not None:
        return max(0, usage.prompt_token_count) or None
    details = usage.prompt_token_details or usage.prompt_tokens_details or ()
    return sum(max(0, item.token_count) for item in details) or None


def join_embeddings(answers: Sequence[Embeddings]) -> Embeddings:
    """Join the answers to several calls; the count is known only if it is of each of them."""
    counts = [answer.prompt_tokens for answer in answers]
    known = [count for count in counts if count is not None]
    return Embeddings(
        [vector for answer in answers for vector in answer.vectors],
        sum(known) if len(known) == len(counts) else None,
    )
