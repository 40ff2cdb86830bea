"""When a request to Gemini may be made again: once, and before the client has seen anything.

SDKs repeat failed requests by themselves, so that what is repeated here as well multiplies.
"""

import re
from dataclasses import replace
from http import HTTPStatus

from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.gemini_answers import MISSING_SIGNATURE
from ai_proxy_service.core.moments import now_micros
from ai_proxy_service.core.order import Order

_SIGNATURE_REFUSED = re.compile(r"thought.?signature", re.IGNORECASE)


class Tries:
    """One order, and what may still be done for it.

    Attributes:
        order: the order as it is to be tried next.
        left: how many repetitions are left.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.left = 1

    def after(self, error: GeminiError) -> bool:
        """Tell whether to try again after a refusal, and use up that try."""
        if not self.left:
            return False
        if _refuses_signatures(error):
            if not self._drop_signatures():
                return False
        elif error.status != HTTPStatus.INTERNAL_SERVER_ERROR and not error.other_key_may_help:
            return False
        self.left -= 1
        return True

    def after_unusable(self, finish: str | None) -> None:
        """Prepare the repetition of an answer that has been charged but can't be used."""
        if finish == MISSING_SIGNATURE:
            self._drop_signatures()
        self.order = replace(
            self.order, attempt=self.order.attempt + 1, started_at_micros=now_micros()
        )
        self.left -= 1

    def _drop_signatures(self) -> bool:
        """Replace all thought signatures: they may be another model's or endpoint's."""
        if self.order.without_signatures is None:
            return False
        body = self.order.without_signatures()
        self.order = replace(self.order, body=body, without_signatures=None)
        return True


def _refuses_signatures(error: GeminiError) -> bool:
    return error.status == HTTPStatus.BAD_REQUEST and bool(_SIGNATURE_REFUSED.search(error.message))
