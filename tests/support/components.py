"""Real components that tests need: none is left out silently where it has to be there."""

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Tell of a missing component: a plain skip on a developer's machine, a failure in CI."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"required in CI: {reason}")
    pytest.skip(reason)
