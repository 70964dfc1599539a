"""Where the stores of a try lie: a folder, S3, or a file system without rename."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

from .plain import SCHEME

BUCKET = "faults"

# Ends with the process that started it: then its standard input is closed.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, perhaps by the URL of a file system that cannot rename."""

    path: Path
    scheme: str = ""

    def url(self, name: str) -> str:
        """The address of a store."""
        return f"{self.scheme}{self.path / name}"

    def put(self, source: Path, name: str) -> str:
        """Copy a store here, and return its address."""
        if source.exists():
            copytree(source, self.path / name)
        return self.url(name)

    def files(self, name: str) -> list[str]:
        """The names of all files of a store."""
        root = self.path / name
        return sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file())

    def read(self, name: str, file: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name / file).read_bytes()

    def write(self, name: str, file: str, value: bytes) -> None:
        """Replace a file's bytes."""
        (self.path / name / file).write_bytes(value)

    def delete(self, name: str, file: str) -> None:
        """Remove a file."""
        (self.path / name / file).unlink()

    def remove(self, name: str) -> None:
        """Remove a store."""
        rmtree(self.path / name, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What child processes must know to reach it."""
        return {}


def plain_folder(path: Path) -> Folder:
    """A folder behind a file system that cannot rename."""
    return Folder(path, f"{SCHEME}://")


@dataclass(frozen=True)
class Bucket:
    """An S3 server of this machine."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What child processes must know to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }

    @property
    def _fs(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(
            endpoint_url=self.endpoint, key="testing", secret="testing", use_listings_cache=False
        )

    def url(self, name: str) -> str:
        """The address of a store."""
        return f"s3://{BUCKET}/{name}"

    def put(self, source: Path, name: str) -> str:
        """Copy a store here, and return its address."""
        for file in sorted(f for f in source.rglob("*") if f.is_file()):
            self.write(name, file.relative_to(source).as_posix(), file.read_bytes())
        return self.url(name)

    def files(self, name: str) -> list[str]:
        """The names of all files of a store."""
        root = f"{BUCKET}/{name}/"
        return sorted(f.removeprefix(root) for f in self._fs.find(root))

    def read(self, name: str, file: str) -> bytes:
        """The bytes of a file."""
        return bytes(self._fs.cat_file(f"{BUCKET}/{name}/{file}"))

    def write(self, name: str, file: str, value: bytes) -> None:
        """Replace a file's bytes."""
        self._fs.pipe_file(f"{BUCKET}/{name}/{file}", value)

    def delete(self, name: str, file: str) -> None:
        """Remove a file."""
        self._fs.rm_file(f"{BUCKET}/{name}/{file}")

    def remove(self, name: str) -> None:
        """Remove a store."""
        root = f"{BUCKET}/{name}"
        if self._fs.exists(root):
            self._fs.rm(root, recursive=True)


@contextmanager
def s3_bucket() -> Iterator[Bucket]:
    """Start a server with an empty bucket, and stop it in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        bucket = Bucket(f"http://127.0.0.1:{int(server.stdout.readline())}")
        bucket._fs.mkdir(BUCKET)
        try:
            yield bucket
        finally:
            server.stdin.close()
