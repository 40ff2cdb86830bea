"""Many requests at once."""

import asyncio
from collections.abc import Sequence

import httpx

from credits.client import SERVICE_KEY, Json, bearer

Request = tuple[str, Json, str | None]
_CONNECTIONS = 50


async def _send(
    client: httpx.AsyncClient, base_url: str, request: Request
) -> httpx.Response | httpx.TransportError:
    path, body, key = request
    headers = {} if key is None else {"Idempotency-Key": key}
    try:
        return await client.post(f"{base_url}/api/v1{path}", json=body, headers=headers)
    except httpx.TransportError as error:
        return error


async def send_at_once(
    base_urls: Sequence[str], requests: Sequence[Request]
) -> list[httpx.Response | httpx.TransportError]:
    """Send requests concurrently, in turn to each of the servers."""
    limits = httpx.Limits(max_connections=_CONNECTIONS)
    async with httpx.AsyncClient(timeout=60, limits=limits, headers=bearer(SERVICE_KEY)) as client:
        return await asyncio.gather(
            *(
                _send(client, base_urls[number % len(base_urls)], request)
                for number, request in enumerate(requests)
            )
        )


def all_at_once(base_urls: Sequence[str], requests: Sequence[Request]) -> list[httpx.Response]:
    """Send requests concurrently; each must be answered."""
    responses: list[httpx.Response] = []
    for answer in asyncio.run(send_at_once(base_urls, requests)):
        if isinstance(answer, httpx.TransportError):
            raise answer
        responses.append(answer)
    return responses
