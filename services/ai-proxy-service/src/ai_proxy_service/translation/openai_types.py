"""The chat requests that OpenAI's clients send, as far as they mean something here.

OpenAI's API reference, "Create chat completion". `null` counts as absent everywhere, unknown
fields are ignored, and numbers are strict: `true` is no integer. What other tools send under
names of their own is noted where it stands.
"""

from typing import Annotated, Any

import msgspec

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
AccountName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
LogitBias = Annotated[float, msgspec.Meta(ge=-100, le=100)]


class MediaUrl(msgspec.Struct):
    """A file by its URL: `data:` or `https:`."""

    url: str
    detail: str | None = None


class InputAudio(msgspec.Struct):
    """Recorded sound, in base64."""

    data: str
    format: str


class InputFile(msgspec.Struct):
    """A file, in base64 or by its name in Gemini's Files API."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class ContentPart(msgspec.Struct):
    """One part of a message's content; which fields count depends on `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: MediaUrl | str | None = None
    input_audio: InputAudio | None = None
    file: InputFile | None = None
    # Vercel's AI SDK sends video so; other tools call it `input_video`.
    video_url: MediaUrl | str | None = None
    input_video: MediaUrl | str | None = None


class FunctionCall(msgspec.Struct):
    """A call that the model made in an earlier turn."""

    name: str
    arguments: str | dict[str, Any] | None = None


class CustomCall(msgspec.Struct):
    """A call of a custom tool, which takes free text."""

    name: str
    input: str | None = None


class ToolCall(msgspec.Struct):
    """A tool call of an earlier turn; `extra_content` is how Google hands signatures back."""

    id: str
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    extra_content: Any = None


class Message(msgspec.Struct):
    """One message of the conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    extra_content: Any = None


class StreamOptions(msgspec.Struct):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(msgspec.Struct):
    """The schema of a structured answer."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The form that the answer must have."""

    type: str
    json_schema: JsonSchema | None = None


class FunctionSpec(msgspec.Struct):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomSpec(msgspec.Struct):
    """A tool that takes free text. Its `format`, a grammar, is only a wish."""

    name: str
    description: str | None = None


class Tool(msgspec.Struct):
    """A tool; Cursor sends functions flat, as the Responses API has them."""

    type: str
    function: FunctionSpec | None = None
    custom: CustomSpec | None = None
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Reasoning(msgspec.Struct):
    """How hard to think, in the form of OpenRouter and of the Responses API."""

    effort: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class AudioOutput(msgspec.Struct):
    """How a spoken answer is to sound."""

    voice: str | dict[str, Any] | None = None
    format: str | None = None


class ChatRequest(msgspec.Struct):
    """The body of `POST /v1/chat/completions`.

    `input` takes the place of `messages` where a client posts the Responses API's form here;
    `instructions`, `text`, `previous_response_id` and `conversation` belong to it.
    """

    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)] | None = None
    input: str | list[Any] | None = None
    instructions: str | None = None
    text: dict[str, Any] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    max_output_tokens: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: PositiveInt | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, LogitBias] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning: Reasoning | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionSpec], msgspec.Meta(max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: AudioOutput | None = None
    web_search_options: dict[str, Any] | None = None
    service_tier: str | None = None
    user: AccountName | None = None
    user_id: AccountName | None = None
    google: dict[str, Any] | None = None
    extra_body: dict[str, Any] | None = None
