"""The service's OpenAPI document is true: requests made from it are answered as it says.

Every operation that the document names, each with requests that keep to it and with ones that
don't. Some of them name accounts, holds, transactions and keys that are there. The same requests
in every run; `SCHEMA_EXAMPLES=1000` for more of them, and PostgreSQL beside SQLite.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from credits.client import (
    ADMIN_KEY,
    SERVICE_KEY,
    CreditsClient,
    Json,
    app_of,
    bearer,
    credits_process,
)
from support.document_fuzz import (
    IS_LONG,
    PATIENCE,
    closed,
    examples,
    fuzzing,
    load,
    modes_of,
    operations_of,
    report,
)
from support.ledgers import ENGINES, empty_ledger

pytestmark = PATIENCE

DOCUMENT = closed(app_of("sqlite+aiosqlite://").openapi())
OPERATIONS = operations_of(DOCUMENT)
EXAMPLES = {"get": 3, "post": 5, "patch": 5, "delete": 3}
KEY_HEADER = "Idempotency-Key"
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TIMEOUT_SECONDS = 60


class Things:
    """What requests may name: an account of its own with credit, and something of everything."""

    _numbers = itertools.count()

    def __init__(self, client: CreditsClient) -> None:
        self._client = client
        user_id = f"payer-{next(self._numbers)}"
        client.top_up(user_id, "1000000")
        self.user_id = user_id
        self.key_id = self._made("/keys", {"account": user_id, "name": "a key"})["key_id"]
        self.transaction_id = client.bill(user_id, "2").json()["transaction_id"]
        self.hold_id = client.held(user_id, "1")["hold_id"]

    def fresh_key(self) -> str:
        """Return an idempotency key that was not used."""
        return f"fresh-{next(self._numbers)}"

    def _made(self, path: str, body: Json) -> Json:
        answer = self._client.call("POST", path, body, key=self.fresh_key(), api_key=ADMIN_KEY)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def named_in(self, value: Any) -> Any:
        """Return a body or parameters that name these things, where they name any."""
        named = {**vars(self), "account": self.user_id}
        if isinstance(value, list):
            return [self.named_in(item) for item in value]
        if isinstance(value, dict):
            return {
                name: named[name]
                if name in named and isinstance(item, str)
                else self.named_in(item)
                for name, item in value.items()
            }
        return value

    def name_in(self, case: Case[Any]) -> None:
        """Let a request name these things, under an idempotency key of its own."""
        case.path_parameters = self.named_in(case.path_parameters)
        case.query = self.named_in(case.query)
        case.body = self.named_in(case.body)
        if KEY_HEADER in (case.headers or {}):
            case.headers[KEY_HEADER] = self.fresh_key()


def refuses_an_item(answer: Response) -> bool:
    """Whether it is a batch's answer, which is 200, and one of the operations was refused."""
    if answer.status_code != 200 or not answer.text.startswith('{"results":'):
        return False
    return any(result["status"] >= 400 for result in answer.json()["results"])


@pytest.fixture(scope="module", params=ENGINES if IS_LONG else ENGINES[:1])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CreditsClient]:
    """A client of a service; nothing that it does not expect may have happened in it."""
    folder = tmp_path_factory.mktemp("document")
    with (
        empty_ledger(request.param, folder) as url,
        credits_process(url, RATE_LIMIT_ENABLED="false") as process,
    ):
        with CreditsClient(process.url) as client:
            yield client
        assert [line for line in process.lines if "unhandled" in line or "Traceback" in line] == []


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
        for path, method in OPERATIONS
        for mode in modes_of(DOCUMENT, path, method)
    ],
)
def test_requests_made_from_the_openapi_document(
    *, client: CreditsClient, path: str, method: str, mode: GenerationMode
) -> None:
    operation = load(DOCUMENT, path, method)
    things = Things(client)
    statuses: Counter[int] = Counter()

    @fuzzing(examples(EXAMPLES[method], modes_of(DOCUMENT, path, method)))
    @given(
        case=operation.as_strategy(generation_mode=mode),
        known=st.booleans(),
        api_key=st.sampled_from((ADMIN_KEY, ADMIN_KEY, ADMIN_KEY, SERVICE_KEY)),
    )
    def run(case: Case[Any], known: bool, api_key: str) -> None:
        if known:
            things.name_in(case)
        answer = case.call(
            base_url=str(client.http.base_url), headers=bearer(api_key), timeout=TIMEOUT_SECONDS
        )
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        # A name that is there may mend what was wrong.
        more = [] if known or refuses_an_item(answer) else [negative_data_rejection]
        case.validate_response(answer, checks=[*CHECKS, *more])

    run()
    report(path, method, mode, statuses)
    if IS_LONG and mode is GenerationMode.POSITIVE:
        # Or nothing was tried but refusals.
        assert any(status < 300 for status in statuses), statuses
    client.assert_sound()
