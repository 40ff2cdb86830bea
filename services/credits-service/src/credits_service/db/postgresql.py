"""PostgreSQL: which of several servers is used, and a limit on everything that may take long.

A server that is gone without a word (power, network) sends nothing, not even a refusal: each
wait has an end on this side as well. Through a pooler in transaction mode consecutive
transactions run in different sessions, so nothing is left in one: no named statements, and
the limits are set anew in each transaction.
"""

import asyncio
import socket
from typing import Any, Literal

import asyncpg
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from credits_service.db.failures import (
    ConnectTimeoutError,
    NoWritableServerError,
    UnreplicatedCommitError,
    drop_useless_connection,
)
from credits_service.db.limits import DatabaseLimits

IsolationLevel = Literal["READ COMMITTED", "REPEATABLE READ"]

_TARGET = "target_session_attrs"
# How much longer this side waits for a statement than the server runs it.
_GRACE_SECONDS = 2.0
# After how long an idle peer is asked for a sign of life, how often, and how many may be missed.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
# PostgreSQL's function that waits for the standbys; texts are translated, this name is not.
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"


class LedgerConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that notices a dead peer, and a commit that no standby has confirmed.

    Attributes:
        is_unreplicated: a commit was reported as done though the wait for the synchronous
            standby was cancelled. Should that standby be promoted, the commit is not there.
    """

    __slots__ = ("is_unreplicated",)

    def __init__(
        self, protocol: Any, transport: asyncio.Transport, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(protocol, transport, *args, **kwargs)
        self.is_unreplicated = False
        self.add_log_listener(_note_warning)
        _ask_for_signs_of_life(transport.get_extra_info("socket"))


def _note_warning(connection: LedgerConnection, message: Any) -> None:
    if message.as_dict().get("server_source_function") == _WAIT_FOR_STANDBY:
        connection.is_unreplicated = True


def _ask_for_signs_of_life(peer: socket.socket) -> None:
    if peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        # Each system has some of them.
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Servers:
    """Opens connections to the first server that answers and, of several, can be written to.

    The one that was found last is asked first the next time: another may be so dead that it
    costs its whole share of the time.
    """

    def __init__(self, url: URL, limits: DatabaseLimits, session_settings: dict[str, str]) -> None:
        self._urls = server_urls(url)
        self._share_seconds = limits.connect_seconds / len(self._urls)
        self._options: dict[str, Any] = {
            "connection_class": LedgerConnection,
            "command_timeout": limits.statement_seconds + _GRACE_SECONDS,
            "server_settings": {"application_name": "credits-service", **session_settings},
        }
        if limits.pooler == "transaction":
            self._options["statement_cache_size"] = 0

    async def connect(self, *_args: object, **_options: object) -> LedgerConnection:
        """Open a connection; what SQLAlchemy made of the URL is not needed.

        Raises:
            ConnectTimeoutError: the last one asked did not answer in time.
            NoWritableServerError: those that answer are standbys, or read only.
            OSError, asyncpg.PostgresError: as the last one asked refused.
        """
        failure: Exception = NoWritableServerError()
        for url in tuple(self._urls):
            try:
                connection: LedgerConnection = await asyncpg.connect(
                    url, timeout=self._share_seconds, **self._options
                )
            except asyncpg.TargetServerAttributeNotMatched:
                failure = NoWritableServerError()
            except TimeoutError:
                failure = ConnectTimeoutError()
            except (OSError, asyncpg.CannotConnectNowError) as error:
                failure = error
            else:
                self._urls.remove(url)
                self._urls.insert(0, url)
                return connection
        raise failure


def server_urls(url: URL) -> list[str]:
    """Return a URL for each server of a ledger's, in the form that asyncpg and libpq share."""
    hosts = url.query.get("host", ())
    plain = url.set(drivername="postgresql")
    if isinstance(hosts, str):
        return [plain.render_as_string(hide_password=False)]
    if not hosts:
        return [plain.render_as_string(hide_password=False)]
    query = {_TARGET: "read-write", **plain.difference_update_query(["host"]).query}
    found = []
    for host in hosts:
        name, _, port = host.rpartition(":")
        server = plain.set(host=name.strip("[]"), port=int(port), query=query)
        found.append(server.render_as_string(hide_password=False))
    return found


def postgresql_engine(
    url: URL,
    limits: DatabaseLimits,
    *,
    pool_size: int,
    isolation_level: IsolationLevel,
    settings: dict[str, str],
) -> AsyncEngine:
    """Make an engine; nothing connects yet.

    Args:
        url: of one server, or of several (see `engine.database_url`).
        limits: how long things may take, and whether a pooler is between.
        pool_size: how many connections there may be.
        isolation_level: of its transactions.
        settings: PostgreSQL's, for its transactions.
    """
    settings = {
        "lock_timeout": _milliseconds(limits.lock_seconds),
        "statement_timeout": _milliseconds(limits.statement_seconds),
        "idle_in_transaction_session_timeout": _milliseconds(limits.statement_seconds),
        **settings,
    }
    pooled = limits.pooler == "transaction"
    connect_args: dict[str, Any] = {
        "async_creator_fn": Servers(url, limits, {} if pooled else settings).connect
    }
    if pooled:
        # A statement without a name is replaced by the next one: nothing stays behind.
        connect_args |= {
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        }
    engine = create_async_engine(
        url.set(query={}),
        isolation_level=isolation_level,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=limits.connect_seconds,
        connect_args=connect_args,
    )
    if pooled:
        _set_in_each_transaction(engine, settings)
    event.listen(engine.sync_engine, "handle_error", drop_useless_connection)
    event.listen(engine.sync_engine, "checkout", _replace_closed_connection)
    return engine


def _replace_closed_connection(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool open another connection if the server has closed this one meanwhile."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _set_in_each_transaction(engine: AsyncEngine, settings: dict[str, str]) -> None:
    # Names and values are this module's and the settings' numbers, never from a request.
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    statement = f"SELECT {', '.join(calls)}"

    @event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)


async def assert_replicated(connection: AsyncConnection) -> None:
    """Check that every commit on a connection was confirmed by the standby it waits for, if any.

    PostgreSQL reports a commit as done even if the wait for the synchronous standby was
    cancelled (`pg_cancel_backend`): with a warning, and that's all.

    Raises:
        UnreplicatedCommitError: one was not.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    if isinstance(driver, LedgerConnection) and driver.is_unreplicated:
        driver.is_unreplicated = False
        raise UnreplicatedCommitError
