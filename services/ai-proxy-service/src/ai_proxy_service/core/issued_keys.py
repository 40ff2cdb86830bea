"""Issued keys as the proxy sees them: who pays, and what may be asked for with them."""

from dataclasses import dataclass
from typing import Literal

from service_kit.keys import Principal

# chat: completions in every form, and quotes; embeddings; models: list and read them; billing:
# credit and receipts of the own account; admin: all of these.
Scope = Literal["chat", "embeddings", "models", "billing", "admin"]
_ANY_REST = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey(Principal):
    """A customer's key that the credits service has accepted.

    Its `name` is the key's id: it stays when the key is renamed or rotated, and no configured
    key's name is meant by it.

    Attributes:
        account: who pays, whatever a request's `user` says.
        label: what people call it.
        allowed_models: names as the catalogue has them; `*` at the end stands for any rest.
            None for all.
        rpm: requests in a minute, None for no limit; so `tpm` tokens in a minute, and
            `max_concurrent` requests at once.
    """

    account: str
    label: str
    allowed_models: tuple[str, ...] | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_concurrent: int | None = None

    def permits(self, scope: Scope) -> bool:
        """Tell whether the key has a scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def limited(self) -> bool:
        """Whether it has any limit but those of spending."""
        return (self.rpm, self.tpm, self.max_concurrent) != (None, None, None)

    def may_use(self, model: str) -> bool:
        """Tell whether the key may ask for a model of the catalogue."""
        if self.allowed_models is None:
            return True
        return any(
            model.startswith(allowed.removesuffix(_ANY_REST))
            if allowed.endswith(_ANY_REST)
            else model == allowed
            for allowed in self.allowed_models
        )
