"""PostgreSQL servers of a test's own, which it may kill, stop, fill up and fail over."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from support.components import skip_or_fail

HOST = "127.0.0.1"
SUPERUSER = "postgres"
DATABASE = "ledger"
_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS = 60
_PAUSE_SECONDS = 0.05


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def server_binaries() -> Path:
    """Return the folder of `initdb`, `postgres` and their kin; skip where there is none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        skip_or_fail("PostgreSQL's server programs (initdb, postgres) are not installed")
    return folders[-1]


def as_owner() -> dict[str, object]:
    """Return options of `subprocess`: PostgreSQL's programs refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": SUPERUSER, "group": SUPERUSER, "extra_groups": []}


def temporary_folder(parent: Path | None) -> Path:
    """Make a folder that PostgreSQL's user owns; pytest's own can't be entered by it."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-pg-", dir=parent))
    if os.geteuid() == 0:
        shutil.chown(folder, SUPERUSER, SUPERUSER)
    return folder


def wait_until(condition: str, holds: object) -> None:
    """Wait until a callable returns something true; fail after a minute."""
    assert callable(holds)
    give_up_at = time.monotonic() + _START_SECONDS
    while not holds():
        assert time.monotonic() < give_up_at, f"never: {condition}"
        time.sleep(_PAUSE_SECONDS)


class Session:
    """A running `psql`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, statements: str) -> str:
        """Run statements, the last of which returns one row; return it.

        Nothing is returned by a session that the server has refused or ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{statements}\n")
            self._process.stdin.flush()
        return self._process.stdout.readline().rstrip("\n")


class PostgresServer:
    """One server: its data, its port, its processes.

    Attributes:
        url: of the database `ledger`, as for `DATABASE_URL`.
        port: on the loopback interface.
        folder: holds the data folder, the log and the Unix socket.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"postgresql://{SUPERUSER}@{HOST}:{self.port}/{DATABASE}"
        self._settings = dict(settings)
        self._data = folder / "data"
        self._binaries = server_binaries()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *args: str) -> str:
        """Run one of PostgreSQL's programs and return what it says."""
        ended = subprocess.run(
            [str(self._binaries / program), *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_SECONDS,
            **as_owner(),  # type: ignore[call-overload]  # options by name
        )
        assert ended.returncode == 0, f"{program} failed: {ended.stdout}{ended.stderr}"
        return str(ended.stdout)

    def target(self, database: str = DATABASE, user: str = SUPERUSER) -> str:
        """Return what `psql` calls a connection string, by way of the Unix socket."""
        return f"host={self.folder} port={self.port} user={user} dbname={database}"

    def sql(self, *statements: str, database: str = DATABASE, user: str = SUPERUSER) -> str:
        """Run statements and return the rows, a line each."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.run(
            "psql", "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", self.target(database, user), *commands
        ).strip()

    @contextmanager
    def session(self, database: str = DATABASE) -> Iterator["Session"]:
        """Open a session of somebody else's; what it has begun is rolled back at its end."""
        with subprocess.Popen(
            [str(self._binaries / "psql"), "-XqtA", "-d", self.target(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **as_owner(),  # type: ignore[call-overload]  # options by name
        ) as process:
            yield Session(process)
            with suppress(BrokenPipeError):
                process.stdin.close()

    def create(self) -> Self:
        """Make the data folder, start the server and make an empty database."""
        self.run(
            "initdb",
            f"--pgdata={self._data}",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        self.start()
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        return self

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {
            "port": str(self.port),
            "listen_addresses": HOST,
            "unix_socket_directories": str(self.folder),
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **as_owner(),  # type: ignore[call-overload]  # options by name
            )
        wait_until("PostgreSQL takes connections", self._is_up)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with suppress(AssertionError):
            self.run("pg_isready", "-q", "-h", str(self.folder), "-p", str(self.port))
            return True
        return False

    def processes(self) -> list[int]:
        """Return the process ids of the server and all that it has started."""
        assert self._process is not None
        children = [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _parent_of(stat) == self._process.pid
        ]
        return [self._process.pid, *children]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server."""
        for process_id in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process_id, number)

    def kill(self) -> None:
        """End it as a power cut would: every process at once, nothing flushed, nothing said."""
        assert self._process is not None
        # A server that is stopped starts nothing new while its children are counted.
        self._process.send_signal(signal.SIGSTOP)
        ended = self.processes()
        for process_id in reversed(ended):
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self._process.wait(_START_SECONDS)
        wait_until("its processes are gone", lambda: not any(map(_is_running, ended)))
        self._process = None

    def stop(self) -> None:
        """End it in order, where it runs; connections are cut."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_START_SECONDS)
            self._process = None

    def standby(self) -> "PostgresServer":
        """Make a synchronous standby: from now on a commit waits until it is on its disk too."""
        folder = self.folder / f"standby-{free_port()}"
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, SUPERUSER, SUPERUSER)
        standby = PostgresServer(folder, self._settings)
        source = f"host={self.folder} port={self.port} user={SUPERUSER}"
        self.run("pg_basebackup", "-D", str(standby._data), "-d", source, "-R", "-c", "fast")
        standby.start()
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until("the standby is synchronous", lambda: self.sql(state) == "1")
        return standby

    def promote(self) -> None:
        """Make a standby the server that is written to."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self._data))


def _parent_of(stat: Path) -> int:
    with suppress(OSError):
        # The name of a program stands in brackets, and may hold anything.
        return int(re.sub(r".*\)", "", stat.read_text(), flags=re.DOTALL).split()[1])
    return 0


def _is_running(process_id: int) -> bool:
    with suppress(OSError):
        stat = Path(f"/proc/{process_id}/stat").read_text()
        return re.sub(r".*\)", "", stat, flags=re.DOTALL).split()[0] != "Z"
    return False


@contextmanager
def postgres_server(parent: Path | None = None, **settings: str) -> Iterator[PostgresServer]:
    """Make and start a server; end it and remove its folder afterwards.

    Args:
        parent: where the folder is made; PostgreSQL's user must be able to enter it.
        settings: PostgreSQL's, by their names.
    """
    server_binaries()
    folder = temporary_folder(parent)
    server = PostgresServer(folder, settings)
    try:
        yield server.create()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Make a synchronous standby; end it afterwards."""
    standby = primary.standby()
    try:
        yield standby
    finally:
        standby.stop()
