"""What people read once everything runs: addresses, a key, and commands to paste."""

from local_settings import DEMO_ACCOUNT, LocalKeys

MODEL = "gemini-2.5-flash"


def guide(proxy_url: str, credits_url: str, keys: LocalKeys) -> str:
    """Return the text; both settings of OpenAI's clients stand alone on a line each."""
    return f"""
Everything is up. The account "{DEMO_ACCOUNT}" has credit, and this key spends it:

OPENAI_BASE_URL={proxy_url}/v1
OPENAI_API_KEY={keys.demo}

A streamed completion:

curl -N {proxy_url}/v1/chat/completions \\
  -H "Authorization: Bearer {keys.demo}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

The same with OpenAI's SDK:

OPENAI_BASE_URL={proxy_url}/v1 OPENAI_API_KEY={keys.demo} .venv/bin/python -c '
from openai import OpenAI
messages = [{{"role": "user", "content": "Hello!"}}]
for chunk in OpenAI().chat.completions.create(model="{MODEL}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()'

What is left on the account:

curl {credits_url}/api/v1/accounts/{DEMO_ACCOUNT} -H "Authorization: Bearer {keys.service}"

More credit, one dollar each time:

curl {credits_url}/api/v1/topup -H "Authorization: Bearer {keys.admin}" \\
  -H "Content-Type: application/json" -H "Idempotency-Key: $(date +%s%N)" \\
  -d '{{"user_id": "{DEMO_ACCOUNT}", "amount": "1.00"}}'

The metrics (Prometheus text with -H "Accept: text/plain"):

curl {proxy_url}/metrics

Ctrl-C stops all of it.
"""
