"""When a request is made again: once, and for reasons that may be gone the second time."""

from typing import Any

import pytest

from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.gemini_answers import MISSING_SIGNATURE
from ai_proxy_service.core.tries import Tries
from support.orders import make_order

PLAIN: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "plain"}]}]}


def error(status: int, message: str = "", *, other_key: bool = False) -> GeminiError:
    made = GeminiError(status, "", message)
    made.other_key_may_help = other_key
    return made


def signed_tries() -> Tries:
    """Return the tries of an order with signatures, which `PLAIN` has no more."""
    return Tries(make_order(without_signatures=lambda: PLAIN))


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (error(500), True),
        (error(429, other_key=True), True),
        (error(400, other_key=True), True),
        (error(403, other_key=True), True),
        (error(400), False),
        (error(401), False),
        (error(404), False),
        (error(429), False),
        (error(502), False),
        (error(503), False),
        (error(504), False),
    ],
)
def test_only_what_may_be_gone_is_tried_again_and_only_once(
    failure: GeminiError, *, again: bool
) -> None:
    tries = Tries(make_order())

    assert tries.after(failure) is again
    assert tries.left == (0 if again else 1)
    assert not (again and tries.after(failure))
    assert tries.order.attempt == 1


@pytest.mark.parametrize(
    "message",
    ["Corrupted thought signature.", "Thought signature is not valid", "bad `thought_signature`"],
)
def test_signatures_that_are_refused_are_left_out(message: str) -> None:
    tries = signed_tries()

    assert tries.after(error(400, message))
    assert tries.order.body == PLAIN
    assert tries.order.without_signatures is None
    assert not tries.after(error(400, message))


def test_where_there_are_no_signatures_none_can_be_left_out() -> None:
    tries = Tries(make_order())

    assert not tries.after(error(400, "Corrupted thought signature."))
    assert tries.left == 1


def test_other_repetitions_leave_the_signatures_alone() -> None:
    tries = signed_tries()

    assert tries.after(error(500))
    assert tries.order.body != PLAIN


@pytest.mark.parametrize(
    ("finish", "plain"),
    [("MALFORMED_FUNCTION_CALL", False), (None, False), (MISSING_SIGNATURE, True)],
)
def test_an_unusable_answer_has_a_second_attempt_with_a_charge_of_its_own(
    finish: str | None, *, plain: bool
) -> None:
    tries = signed_tries()

    tries.after_unusable(finish)

    assert (tries.order.body == PLAIN) is plain
    assert (tries.order.attempt, tries.left) == (2, 0)
    assert tries.order.billing_key == "chatcmpl-test-2"
    assert not tries.after(error(500))
