"""What the core needs from the outside: a model service and a billing service."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ai_proxy_service.core.gemini import GenerateContentBody, GenerateContentResponse
from ai_proxy_service.core.settlement import Settled, Settlement


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How texts are to be embedded.

    Attributes:
        dimensions: length of each vector; None for the model's own.
        task_type: what the vectors are for, for example ``RETRIEVAL_QUERY``.
    """

    dimensions: int | None = None
    task_type: str | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors as Gemini gave them.

    Attributes:
        vectors: one a text.
        prompt_tokens: what Gemini counted; None where it did not say.
    """

    vectors: list[list[float]]
    prompt_tokens: int | None


class GeminiStream(Protocol):
    """An answer on its way.

    Cancelling `receive` loses nothing: the next call goes on where it was.
    """

    @property
    def received_bytes(self) -> int:
        """What has come so far, as it was on the wire."""

    async def receive(self) -> list[GenerateContentResponse]:
        """Return the chunks that have arrived, at least one; an empty list is the end.

        Raises:
            GeminiError: Gemini reported an error, or the connection broke off.
        """

    async def aclose(self) -> None:
        """Stop the answer and free what it holds. May be called more than once."""


class GeminiClient(Protocol):
    """Google Gemini's `generateContent` family.

    Every call raises `InvalidRequestError` where the client behind it can't say what the body
    says, and leaving that out would change the answer.
    """

    @property
    def unsupported(self) -> frozenset[str]:
        """OpenAI's names of parameters that this client leaves out without harm."""

    async def generate_completion(
        self, model: str, body: GenerateContentBody
    ) -> GenerateContentResponse:
        """Return a whole answer.

        Raises:
            GeminiError: Gemini refused, failed or could not be reached.
        """

    async def generate_completion_stream(
        self, model: str, body: GenerateContentBody
    ) -> GeminiStream:
        """Open a stream; returns once Gemini has accepted the request.

        Raises:
            GeminiError: as `generate_completion`.
        """

    async def count_tokens(self, model: str, body: GenerateContentBody) -> int:
        """Return the exact number of prompt tokens that the body will be billed for.

        Raises:
            GeminiError: as `generate_completion`.
        """

    async def embed(self, model: str, texts: Sequence[str], options: EmbedOptions) -> Embeddings:
        """Return the vectors of some texts, in their order.

        Raises:
            GeminiError: as `generate_completion`.
        """

    async def list_models(self) -> list[str]:
        """Return the ids, without ``models/``, of all models that generate content or embed.

        Raises:
            GeminiError: as `generate_completion`.
        """

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A wish to reserve credit.

    Attributes:
        key: idempotency key; a refusal is remembered under it, so each wish has its own.
        account: whose credit.
        amount_nanos: how much, in nano-USD.
        min_amount_nanos: the least that is of use; None for all or nothing.
        request_ref: the id of the HTTP request.
        key_id: the issued key whose spend limits count too; None if none asked for it.
    """

    key: str
    account: str
    amount_nanos: int
    request_ref: str
    min_amount_nanos: int | None = None
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Credit reserved for one completion.

    Attributes:
        hold_id: its id in the ledger; empty where nothing is enforced.
        amount_nanos: what is reserved, in nano-USD.
        available_nanos: what the account could still spend besides; None where unknown.
    """

    hold_id: str
    amount_nanos: int
    available_nanos: int | None


NO_HOLD = Hold("", 0, None)
"""Stands for a hold where nothing is enforced."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has.

    Attributes:
        available_nanos: what is not reserved, in nano-USD.
        spendable_nanos: the part of it that the spend limits of the account, and of the key that
            asks, allow to be used now.
        status: whether it may be used at all.
        limited_by: the limit that allows no more, as the ledger calls it; None for the credit.
    """

    available_nanos: int
    spendable_nanos: int
    status: Literal["open", "frozen", "closed"] = "open"
    limited_by: str | None = None


class BillingService(Protocol):
    """Where credit is held and charged."""

    @property
    def enforced(self) -> bool:
        """Whether a completion needs credit to be served."""

    async def balance(self, account: str, key_id: str | None = None) -> Balance | None:
        """Return what an account has, for one of its issued keys; None where nothing is enforced.

        Raises:
            InvalidRequestError: nobody can ask for an account of that name.
            BillingUnavailableError: not known.
        """

    async def hold(self, request: HoldRequest) -> Hold:
        """Reserve credit: the amount, or at least the minimum if one is given.

        Raises:
            InsufficientCreditError: proven that the account can't.
            BillingUnavailableError: not known whether it can, nor whether it did.
        """

    async def withdraw(self, request: HoldRequest) -> None:
        """Make sure that a wish whose answer was lost reserves nothing."""

    async def raise_hold(self, hold: Hold, amount_nanos: int, progress_nanos: int) -> Hold:
        """Raise a hold to an amount and record what has been used so far.

        Raises:
            InsufficientCreditError: the raise can't be paid; the hold stands.
            BillingUnavailableError: not known.
        """

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge, for certain: what can't be delivered now is kept and delivered later."""

    async def release(self, hold: Hold) -> None:
        """Return a whole hold; if that can't be delivered the hold expires by itself."""

    async def aclose(self) -> None:
        """Close all connections."""


class CallMemory(Protocol):
    """Keeps for a while what Gemini wants to see again with a tool call of its own.

    Clients are expected to send it back themselves, but most drop fields that they don't know.
    It is a help, never a condition: where it fails, it knows nothing.
    """

    async def recall(self, account: str, call_ids: Collection[str]) -> Mapping[str, bytes]:
        """Return what is known of some calls of an account; unknown ones are left out."""

    async def remember(self, account: str, calls: Mapping[str, bytes]) -> None:
        """Keep what belongs to calls, by their ids, until it expires."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Media:
    """A file that was fetched.

    Attributes:
        mime_type: what its content was found to be, never only what its server said.
        data: base64 of the content.
        content_bytes: its size before that.
    """

    mime_type: str
    data: str
    content_bytes: int


class MediaFetcher(Protocol):
    """Fetches the files that messages name by URL."""

    async def fetch(self, urls: Collection[str], owner: str) -> Mapping[str, Media]:
        """Fetch files side by side.

        Args:
            urls: where they are.
            owner: who asks; everybody has a share of what is fetched at once.

        Raises:
            MediaFetchError: one could not be had, or may not be; nothing is fetched any more.
        """

    async def aclose(self) -> None:
        """Close all connections."""
