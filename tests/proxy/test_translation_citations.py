"""What an answer rests on: places in characters, whatever the text is made of."""

from typing import Any

import pytest

from support.chats import Json, chunk, deltas, message, streamed

STOP = chunk(finish="STOP")
SOURCES = [
    {"web": {"uri": "https://a.example", "title": "A"}},
    {"web": {"uri": "https://b.example"}},
    {"web": {"title": "no address"}},
    {"maps": {"uri": "https://maps.example", "title": "Here"}},
    {"retrievedContext": {"uri": "gs://x", "title": "Doc"}},
    {"unheardOf": {}},
]
CODE = {"executableCode": {"language": "PYTHON", "code": "print('é')"}}


def segment(text: str, within: str, *, told: bool = True, **fields: Any) -> Json:
    """Return a segment by its bytes, as Gemini has it."""
    start = len(within[: within.index(text)].encode())
    made = {"startIndex": start, "endIndex": start + len(text.encode()), **fields}
    return {**made, "text": text} if told else made


def grounding(*supports: Json, chunks: list[Json] | None = None) -> Json:
    return {
        "groundingChunks": SOURCES if chunks is None else chunks,
        "groundingSupports": list(supports),
    }


def support(where: Json, *sources: int) -> Json:
    return {"segment": where, "groundingChunkIndices": list(sources)}


def annotations(*chunks: Any) -> list[Json]:
    """Return the citations of an answer, the same in a stream as in a whole one."""
    found: list[Json] = message(*chunks)["annotations"]
    told = [delta["annotations"] for delta in deltas(streamed(*chunks)) if "annotations" in delta]
    assert told == ([found] if found else [])
    return found


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Plain words.", "words"),
        ("Plain words.", "Plain"),
        ("Plain words.", "Plain words."),
        ("Größe: 5 µm 😀 done", "5 µm 😀"),
        ("Größe: 5 µm 😀 done", "done"),
        ("日本語の答え", "答え"),
        ("日本語の答え", "日本"),
        ("e\u0301e\u0301x", "x"),
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_bytes_become_characters(text: str, cited: str, *, told: bool) -> None:
    cut = len(text) // 2
    where = support(segment(cited, text, told=told), 0)

    (found,) = annotations(
        chunk({"text": text[:cut]}),
        chunk({"text": text[cut:]}, finish="STOP", groundingMetadata=grounding(where)),
    )

    citation = found["url_citation"]
    assert found["type"] == "url_citation"
    assert text[citation["start_index"] : citation["end_index"]] == cited
    assert (citation["url"], citation["title"]) == ("https://a.example", "A")


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("cited", ["Before é.", "After ü.", "ü"])
def test_programs_that_are_shown_are_not_in_geminis_count(cited: str, *, told: bool) -> None:
    plain = "Before é.\nAfter ü."
    where = support(segment(cited, plain, told=told), 0)
    chunks = [
        chunk({"text": "Before é.\n"}),
        chunk(CODE, {"codeExecutionResult": {"output": "é"}}),
        chunk({"text": "After ü."}, finish="STOP", groundingMetadata=grounding(where)),
    ]

    (found,) = annotations(*chunks)

    content = message(*chunks)["content"]
    citation = found["url_citation"]
    assert content[citation["start_index"] : citation["end_index"]] == cited


@pytest.mark.parametrize(
    ("sources", "url", "title"),
    [
        ((1,), "https://b.example", "https://b.example"),
        ((3,), "https://maps.example", "Here"),
        ((4,), "gs://x", "Doc"),
        ((0, 1), "https://a.example", "A"),
        ((2, 1), "https://b.example", "https://b.example"),
        ((99, 0), "https://a.example", "A"),
    ],
)
def test_each_stretch_is_cited_once_by_its_first_source_with_an_address(
    sources: tuple[int, ...], url: str, title: str
) -> None:
    where = support(segment("x", "x"), *sources)

    (found,) = annotations(chunk({"text": "x"}, finish="STOP", groundingMetadata=grounding(where)))

    assert found["url_citation"] == {"start_index": 0, "end_index": 1, "url": url, "title": title}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"webSearchQueries": ["x"], "searchEntryPoint": {"renderedContent": "<div>"}},
        {"groundingChunks": SOURCES},
        grounding(support({"endIndex": 1}, 0), chunks=[]),
        grounding(support({"endIndex": 1}, 2), support({"endIndex": 1}, 5), support({}, -1)),
        grounding(support({"endIndex": 1})),
        grounding({"groundingChunkIndices": [0]}),
    ],
)
def test_what_has_no_source_or_no_place_is_not_cited(metadata: Json) -> None:
    assert annotations(chunk({"text": "x"}, finish="STOP", groundingMetadata=metadata)) == []


def test_what_is_told_again_is_cited_once() -> None:
    first = support(segment("one", "one two"), 0)
    second = support(segment("two", "one two"), 1)

    found = annotations(
        chunk({"text": "one "}, groundingMetadata=grounding(first)),
        chunk({"text": "two"}, groundingMetadata=grounding(first, second)),
        STOP,
    )

    starts = [item["url_citation"]["start_index"] for item in found]
    assert starts == [0, 4]


def test_sources_may_come_before_what_rests_on_them() -> None:
    found = annotations(
        chunk({"text": "x"}, groundingMetadata={"groundingChunks": SOURCES}),
        chunk(
            finish="STOP",
            groundingMetadata={"groundingSupports": [support(segment("x", "x"), 1)]},
        ),
    )

    assert [item["url_citation"]["url"] for item in found] == ["https://b.example"]


def test_offsets_of_a_part_are_mended_by_the_text_they_name() -> None:
    where = support({"partIndex": 1, "startIndex": 0, "endIndex": 4, "text": "late"}, 0)

    (found,) = annotations(
        chunk(
            {"text": "soon "}, {"text": "late"}, finish="STOP", groundingMetadata=grounding(where)
        )
    )

    assert found["url_citation"]["start_index"] == 5
    assert found["url_citation"]["end_index"] == 9


@pytest.mark.parametrize("text", ["abc", "äbc"])
def test_places_outside_the_text_end_where_it_ends(text: str) -> None:
    (found,) = annotations(
        chunk(
            {"text": text},
            finish="STOP",
            groundingMetadata=grounding(support({"endIndex": 99}, 0)),
        )
    )

    assert found["url_citation"]["end_index"] == 3
