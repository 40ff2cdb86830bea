"""The stores of answers, each over the real thing."""

import os
import uuid

import redis

from support.components import skip_or_fail

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")
KINDS = ("memory", "file", "redis")
# Stores that processes share.
SHARED_KINDS = ("file", "redis")


def store_uri(kind: str) -> str:
    """Return `ANSWER_STORE_URI` of a kind of store; there has to be a Redis that answers."""
    if kind == "redis":
        try:
            with redis.Redis.from_url(REDIS_URL, socket_timeout=5) as client:
                client.ping()
        except redis.RedisError as error:
            skip_or_fail(f"Redis could not be reached: {error}")
    return {"memory": "memory://", "file": "", "redis": REDIS_URL}[kind]


def new_key() -> str:
    """Return an idempotency key that no other test has."""
    return f"key-{uuid.uuid4().hex}"


def new_name() -> bytes:
    """Return a name of a key that no other test has."""
    return uuid.uuid4().bytes
