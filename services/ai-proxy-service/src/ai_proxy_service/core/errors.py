"""The proxy's expected failures, with the statuses and codes that OpenAI's clients act on.

    ServiceError (kit)
    ├── InvalidRequestError      400  the client's request
    │   ├── ModelNotFoundError   400
    │   ├── MediaFetchError      400  a file that a message names can't be had
    │   └── KeyReusedError       400  its idempotency key belongs to another request
    ├── InsufficientCreditError  402  the account can't pay; no SDK retries it
    ├── AccountClosedError       403  the account is frozen or closed
    ├── AccountNotFoundError     404  there is no such account
    ├── CreditsNotKeptError      404  there is no credits service
    ├── MissingScopeError        403  the key is good, but not for this
    ├── KeyLimitReachedError     429  a limit of the key does not admit it (key_limits.py)
    ├── AnswerNotKeptError       409  the answer under an idempotency key can't be shown again
    ├── BillingUnavailableError  503  it could not be found out whether the account can pay
    ├── KeyCheckUnavailableError 503  it could not be found out whether the key is accepted
    ├── AnswersUnavailableError  503  it could not be found out whether a key has an answer
    ├── AnswerBrokeOffError      503  the process that made an answer for a key is gone
    ├── ReceiptNotFoundError     404  there is none, or it is somebody else's
    ├── ReceiptsUnavailableError 503  the usage log can't be read
    └── UpstreamError            4xx/5xx  Gemini refused or failed

https://platform.openai.com/docs/guides/error-codes
"""

from ai_proxy_service.core.money import usd_text
from service_kit.errors import ServiceError

# The header's name, as clients write it.
IDEMPOTENCY_KEY = "Idempotency-Key"
# Begins the ledger's names of an issued key's spend limits; those of its account have none such.
_OF_KEY = "key_"


class InvalidRequestError(ServiceError):
    """The request is not one that can be served."""

    status = 400
    code = "invalid_value"


class ModelNotFoundError(InvalidRequestError):
    """The model is unknown, or has no price."""

    code = "model_not_found"

    def __init__(self, model: str, *, status: int = 400) -> None:
        super().__init__(
            f"The model '{model[:128]}' does not exist or you do not have access to it.",
            status=status,
            field="model",
        )


def missing_parameter(field: str) -> InvalidRequestError:
    """Return the error for a parameter that has to be there."""
    return InvalidRequestError(
        f"Missing required parameter: '{field}'.", code="missing_required_parameter", field=field
    )


class MediaFetchError(InvalidRequestError):
    """A file that a message names by URL can't be had, or may not be.

    Attributes:
        url: which one; where it stood in the request is for who knows that to say.
    """

    code = "invalid_image_url"

    def __init__(self, url: str, message: str) -> None:
        super().__init__(message)
        self.url = url


def spend_limit_text(limit: str) -> str:
    """Call a spend limit, by the ledger's name for it, as its reader knows it."""
    whose = "API key" if limit.startswith(_OF_KEY) else "account"
    return f"Your {whose}'s spend limit ({limit.removeprefix(_OF_KEY)})"


class InsufficientCreditError(ServiceError):
    """The account can't pay for the request.

    Attributes:
        available_nanos: what it has, in nano-USD; None if unknown.
        retryable: running requests hold credit that may come back: waiting may help.
        limit: the spend limit that is reached, as the ledger calls it; None for credit.
    """

    status = 402
    code = "insufficient_quota"

    def __init__(
        self,
        message: str,
        *,
        available_nanos: int | None = None,
        required_nanos: int | None = None,
        retryable: bool = False,
        limit: str | None = None,
    ) -> None:
        # Other SDKs treat 4xx alike; OpenAI's obey this header whatever the status.
        headers = {"x-should-retry": "false"}
        if available_nanos is not None:
            headers["x-credits-available"] = usd_text(available_nanos)
        if required_nanos is not None:
            headers["x-credits-required"] = usd_text(required_nanos)
            headers["x-credits-waiting-helps"] = str(retryable).lower()
        super().__init__(message, headers=headers)
        self.available_nanos = available_nanos
        self.retryable = retryable
        self.limit = limit


class AccountNotFoundError(ServiceError):
    """Nobody has ever topped the account up."""

    status = 404
    code = "account_not_found"

    def __init__(self, account: str) -> None:
        super().__init__(f"There is no account '{account[:128]}'.")


class CreditsNotKeptError(ServiceError):
    """No credits service is configured: nobody has any credit, or needs it."""

    status = 404
    code = "credits_not_kept"

    def __init__(self) -> None:
        super().__init__("This gateway keeps no credit: requests are served without.")


class AccountClosedError(ServiceError):
    """An operator has frozen or closed the account; `code` says which."""

    status = 403

    def __init__(self, code: str) -> None:
        super().__init__("The account may not be used. Please contact support.", code=code)


class MissingScopeError(ServiceError):
    """The key is good, but not for this."""

    status = 403
    code = "insufficient_permissions"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"You have insufficient permissions for this operation. Missing scopes: {scope}."
        )


class KeyCheckUnavailableError(ServiceError):
    """The credits service, which knows the issued keys, gave no certain answer."""

    status = 503
    code = "key_check_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "API keys can't be checked at the moment. Please try again shortly.",
            headers={"retry-after": "2"},
        )


class BillingUnavailableError(ServiceError):
    """The credits service gave no certain answer; nothing is served on credit."""

    status = 503
    code = "billing_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The billing service is temporarily unavailable. Please try again shortly.",
            headers={"retry-after": "2"},
        )


class KeyReusedError(InvalidRequestError):
    """The idempotency key belongs to another request of the same client."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            f"The {IDEMPOTENCY_KEY} was used for another request. Use a new key for each request.",
            field=IDEMPOTENCY_KEY,
        )


class AnswerNotKeptError(ServiceError):
    """The answer under an idempotency key was charged, but can't be shown again."""

    status = 409

    def __init__(self, code: str, why: str) -> None:
        super().__init__(
            f"The request with this {IDEMPOTENCY_KEY} has been answered, but {why}. It is not "
            "answered, nor charged, again: use a new key.",
            code=code,
            field=IDEMPOTENCY_KEY,
            headers={"x-should-retry": "false"},
        )


class AnswerBrokeOffError(ServiceError):
    """The process that made an answer is gone, in the middle of it."""

    status = 503
    code = "idempotency_answer_broke_off"

    def __init__(self) -> None:
        super().__init__("The answer broke off. Please try again.")


class AnswersUnavailableError(ServiceError):
    """The store of answers gave no certain answer: nothing is served that may be charged twice."""

    status = 503
    code = "idempotency_unavailable"

    def __init__(self) -> None:
        super().__init__(
            f"Requests with an {IDEMPOTENCY_KEY} can't be served at the moment. Please try again "
            "shortly.",
            headers={"retry-after": "2"},
        )


class ReceiptNotFoundError(ServiceError):
    """There is no such receipt, or it is not for who asks."""

    status = 404
    code = "receipt_not_found"

    def __init__(self, asked_id: str) -> None:
        super().__init__(f"There is no receipt for '{asked_id[:128]}'.")


class ReceiptsUnavailableError(ServiceError):
    """The usage log can't be read."""

    status = 503
    code = "receipts_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Receipts can't be read at the moment. Please try again shortly.",
            headers={"retry-after": "2"},
        )


class UpstreamError(ServiceError):
    """Gemini refused or failed; the text is safe to show."""

    status = 502
    code = "upstream_error"


def unusable_answer(finish: str | None) -> UpstreamError:
    """Return the error for an answer that can't be used: for Gemini's reason, if it gave one."""
    if finish is None:
        return UpstreamError("The model's answer broke off. Please try again.")
    return UpstreamError(
        "The model produced an answer that can't be used. Please try again.", code=finish.lower()
    )
