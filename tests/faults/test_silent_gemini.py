"""Gemini goes silent in mid-answer, and the proxy is told to end."""

from pathlib import Path

import openai
import pytest

from support.stack import CLIENT_KEY, MODEL, running_stack, say


@pytest.mark.parametrize("client", ["rest", "sdk"])
def test_the_proxy_ends_and_charges_what_was_reported(client: str, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    settings = {"GEMINI_CLIENT": client, "DRAIN_SECONDS": "1"}
    with running_stack(tmp_path, url, settings) as stack:
        account = stack.account("1")
        gate = f"silent-{client}"
        stack.release(gate, 5)
        with openai.OpenAI(
            api_key=CLIENT_KEY, base_url=f"{stack.proxy.url}/v1", max_retries=0, timeout=60
        ) as caller:
            stream = caller.chat.completions.create(
                model=MODEL,
                messages=say(f"[[sim tokens=50 thoughts=0 gate={gate}]]"),
                user=account,
                stream=True,
            )
            next(stream)
            stack.wait_at_gate(gate)

            stack.proxy.process.terminate()
            # Fails if the process is still there after the time that tests wait for an end.
            assert stack.proxy.stop() == 0
            stream.close()

        (charge,) = stack.transactions(account)
        assert charge["usage"]["candidates_tokens"] == 5
        assert charge["metadata"]["estimated"] is True
        assert stack.balance(account)["held"] == 0
        stack.assert_ledger_is_sound()
