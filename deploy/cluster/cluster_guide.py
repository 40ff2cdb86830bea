"""What people read once the cluster runs: addresses, a key, and commands to paste."""

from collections.abc import Sequence
from pathlib import Path

from guide import MODEL
from local_settings import DEMO_ACCOUNT, LocalKeys


def cluster_guide(
    *, url: str, certificate: Path, proxies: Sequence[str], credits_url: str, keys: LocalKeys
) -> str:
    """Return the text; what clients have to be told stands alone on a line each."""
    inside = " and ".join(proxies)
    return f"""
Everything is up. The account "{DEMO_ACCOUNT}" has credit, and this key spends it:

OPENAI_BASE_URL={url}/v1
OPENAI_API_KEY={keys.demo}
SSL_CERT_FILE={certificate}

A streamed completion:

curl -N --cacert {certificate} {url}/v1/chat/completions \\
  -H "Authorization: Bearer {keys.demo}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

What is left on the account:

curl {credits_url}/api/v1/accounts/{DEMO_ACCOUNT} -H "Authorization: Bearer {keys.service}"

More credit, one dollar each time:

curl {credits_url}/api/v1/topup -H "Authorization: Bearer {keys.admin}" \\
  -H "Content-Type: application/json" -H "Idempotency-Key: $(date +%s%N)" \\
  -d '{{"user_id": "{DEMO_ACCOUNT}", "amount": "1.00"}}'

Behind nginx: proxies {inside}; both credits services on {credits_url}.

Every process of the services, one after the other, without losing a request:

make cluster-restart

Ctrl-C stops all of it.
"""
