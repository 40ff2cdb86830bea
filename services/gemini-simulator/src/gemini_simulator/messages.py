"""The request messages that the simulator understands.

Field names and types are those of the API description (v1beta) plus the fields that only the
recorded wire and Google's current client know. What the simulator merely accepts is `Any`.
Enumerations stand in the order of their numbers on the wire, which start at 0.
"""

from enum import StrEnum, auto
from typing import Annotated, Any

from msgspec import Meta, Struct, field

# Marks a string that carries bytes: the JSON reader checks its base64.
Bytes = Annotated[str, Meta(extra={"bytes": True})]


class Type(StrEnum):
    """Schema types."""

    TYPE_UNSPECIFIED = auto()
    STRING = auto()
    NUMBER = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    ARRAY = auto()
    OBJECT = auto()
    NULL = auto()


class Mode(StrEnum):
    """How function calling is decided."""

    MODE_UNSPECIFIED = auto()
    AUTO = auto()
    ANY = auto()
    NONE = auto()
    VALIDATED = auto()


class ThinkingLevel(StrEnum):
    """How much a third-generation model thinks."""

    THINKING_LEVEL_UNSPECIFIED = auto()
    LOW = auto()
    HIGH = auto()
    MEDIUM = auto()
    MINIMAL = auto()
    XHIGH = auto()


class ResponseModality(StrEnum):
    """What an answer is made of."""

    MODALITY_UNSPECIFIED = auto()
    TEXT = auto()
    IMAGE = auto()
    AUDIO = auto()


class HarmCategory(StrEnum):
    """Categories of safety ratings and settings."""

    HARM_CATEGORY_UNSPECIFIED = auto()
    HARM_CATEGORY_DEROGATORY = auto()
    HARM_CATEGORY_TOXICITY = auto()
    HARM_CATEGORY_VIOLENCE = auto()
    HARM_CATEGORY_SEXUAL = auto()
    HARM_CATEGORY_MEDICAL = auto()
    HARM_CATEGORY_DANGEROUS = auto()
    HARM_CATEGORY_HARASSMENT = auto()
    HARM_CATEGORY_HATE_SPEECH = auto()
    HARM_CATEGORY_SEXUALLY_EXPLICIT = auto()
    HARM_CATEGORY_DANGEROUS_CONTENT = auto()
    HARM_CATEGORY_CIVIC_INTEGRITY = auto()


class HarmBlockThreshold(StrEnum):
    """From which probability on content is blocked."""

    HARM_BLOCK_THRESHOLD_UNSPECIFIED = auto()
    BLOCK_LOW_AND_ABOVE = auto()
    BLOCK_MEDIUM_AND_ABOVE = auto()
    BLOCK_ONLY_HIGH = auto()
    BLOCK_NONE = auto()
    OFF = auto()


class _Message(Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A protocol message: every field optional, `lowerCamelCase` on the wire."""


class Schema(_Message):
    """The OpenAPI subset that declares arguments and answers."""

    type: Type | None = None
    format: str | None = None
    title: str | None = None
    description: str | None = None
    nullable: bool | None = None
    enum: list[str] = field(default_factory=list)
    items: "Schema | None" = None
    max_items: int | None = None
    min_items: int | None = None
    properties: dict[str, "Schema"] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    min_properties: int | None = None
    max_properties: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    example: Any = None
    any_of: list["Schema"] = field(default_factory=list)
    property_ordering: list[str] = field(default_factory=list)
    default: Any = None


class Blob(_Message):
    """Inline media."""

    mime_type: str = ""
    data: Bytes = ""
    display_name: str = ""


class FileData(_Message):
    """Media by URI."""

    mime_type: str = ""
    file_uri: str = ""
    display_name: str = ""


class FunctionCall(_Message):
    """A call that the model made."""

    id: str = ""
    name: str = ""
    args: Any = None


class FunctionResponse(_Message):
    """The result of a call."""

    id: str = ""
    name: str = ""
    response: Any = None
    parts: list[Any] = field(default_factory=list)
    will_continue: bool = False
    scheduling: str = ""


class Part(_Message):
    """One piece of a content."""

    text: str | None = None
    thought: bool = False
    thought_signature: Bytes = ""
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: Any = None
    code_execution_result: Any = None
    tool_call: Any = None
    tool_response: Any = None
    video_metadata: Any = None
    part_metadata: Any = None
    media_resolution: Any = None

    def has_data(self) -> bool:
        """Tell whether one of the data fields, or a signature of its own, is set."""
        data = (
            self.text,
            self.inline_data,
            self.file_data,
            self.function_call,
            self.function_response,
            self.executable_code,
            self.code_execution_result,
            self.tool_call,
            self.tool_response,
        )
        return bool(self.thought_signature) or any(value is not None for value in data)


class Content(_Message):
    """One turn."""

    role: str = ""
    parts: list[Part] = field(default_factory=list)


class FunctionDeclaration(_Message):
    """A function that the model may call."""

    name: str = ""
    description: str = ""
    parameters: Schema | None = None
    parameters_json_schema: Any = None
    response: Schema | None = None
    response_json_schema: Any = None
    behavior: str = ""


class Tool(_Message):
    """Functions, or one of the service's own tools."""

    function_declarations: list[FunctionDeclaration] = field(default_factory=list)
    google_search_retrieval: Any = None
    code_execution: Any = None
    google_search: Any = None
    computer_use: Any = None
    url_context: Any = None
    file_search: Any = None
    google_maps: Any = None
    mcp_servers: Any = None

    def is_server_side(self) -> bool:
        """Tell whether the service itself would run this tool."""
        own = (
            self.google_search_retrieval,
            self.code_execution,
            self.google_search,
            self.url_context,
            self.file_search,
            self.google_maps,
        )
        return any(value is not None for value in own)


class FunctionCallingConfig(_Message):
    """Whether and what to call."""

    mode: Mode | None = None
    allowed_function_names: list[str] = field(default_factory=list)


class ToolConfig(_Message):
    """Options of all tools."""

    function_calling_config: FunctionCallingConfig | None = None
    retrieval_config: Any = None
    include_server_side_tool_invocations: bool = False


class ThinkingConfig(_Message):
    """How much to think, and whether to show it."""

    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: ThinkingLevel | None = None


class GenerationConfig(_Message):
    """Options of the answer."""

    candidate_count: int | None = None
    stop_sequences: list[str] = field(default_factory=list)
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    response_mime_type: str = ""
    response_schema: Schema | None = None
    response_json_schema: Any = None
    response_json_schema_ordered: Any = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool = False
    logprobs: int | None = None
    enable_enhanced_civic_answers: bool = False
    response_modalities: list[ResponseModality] = field(default_factory=list)
    speech_config: Any = None
    thinking_config: ThinkingConfig | None = None
    image_config: Any = None
    media_resolution: str = ""


class SafetySetting(_Message):
    """A threshold for one category."""

    category: HarmCategory | None = None
    threshold: HarmBlockThreshold | None = None


class GenerateContentRequest(_Message):
    """Body of `generateContent` and `streamGenerateContent`."""

    model: str = ""
    system_instruction: Content | None = None
    contents: list[Content] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    tool_config: ToolConfig | None = None
    safety_settings: list[SafetySetting] = field(default_factory=list)
    generation_config: GenerationConfig = field(default_factory=GenerationConfig)
    cached_content: str = ""
    service_tier: str = ""
    store: bool = False
    labels: Any = None


class CountTokensRequest(_Message):
    """Body of `countTokens`."""

    model: str = ""
    contents: list[Content] = field(default_factory=list)
    generate_content_request: GenerateContentRequest | None = None


class EmbedContentRequest(_Message):
    """Body of `embedContent`, and one entry of a batch."""

    model: str = ""
    content: Content | None = None
    task_type: Any = None
    title: str = ""
    output_dimensionality: int | None = None
    auto_truncate: bool = False


class BatchEmbedContentsRequest(_Message):
    """Body of `batchEmbedContents`."""

    model: str = ""
    requests: list[EmbedContentRequest] = field(default_factory=list)
