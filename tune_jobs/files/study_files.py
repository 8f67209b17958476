"""Where workers leave what they computed: the study's folder, a shared folder, or a URL of pyarrow's file systems."""

import contextlib
import os
import posixpath
import re
import stat
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from edgenes.checkpoint import write_atomically
from edgenes.errors import ConfigError, WriteError
from edgenes.parsing import reason, shown
from tune_jobs.errors import StudyError
from tune_jobs.files.layout import OWNER

_OBJECT_STORES = ("s3", "gcs", "abfs")  # an object appears whole, and cannot be renamed cheaply


@cache
def _open(url: str) -> tuple[FileSystem, str]:
    if url.startswith("/"):
        return LocalFileSystem(), url  # as it is: no %20 in a folder's name is a space
    try:
        return FileSystem.from_uri(url)
    except (ArrowException, OSError) as error:
        raise ConfigError(
            f"--storage-path must be an absolute folder, or a URL that pyarrow's file systems take, such as "
            f"s3://BUCKET/PREFIX; {url} is none: {reason(error)}."
        ) from error


@dataclass(frozen=True)
class Remote:
    """A folder `name` under `url` (a folder or a URL), its files named relative to it, with / between parts.

    `study` identifies the study whose files these are: a node keeps copies for it alone.
    What cannot be read or written raises WriteError: it is the storage's fault, and no trial's.
    """

    url: str
    name: str = ""
    study: str = ""

    @property
    def filesystem(self) -> FileSystem:
        """pyarrow's file system behind the URL."""
        return _open(self.url)[0]

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine, or mounted on it."""
        return isinstance(self.filesystem, LocalFileSystem)

    def path(self, name: str = "") -> str:
        """The path of a file in the file system."""
        return posixpath.join(_open(self.url)[1], *filter(None, (self.name, name)))

    def name_of(self, path: str) -> str:
        """The name of what lies at `path` in the file system; raises ValueError if it is none of these files."""
        if self.local:
            return Path(path).resolve().relative_to(Path(self.path()).resolve()).as_posix()
        return PurePosixPath(path).relative_to(self.path()).as_posix()

    def holds(self, name: str) -> bool:
        """Whether `name`, which may be a stranger's, is that of a folder in here."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute():
            return False
        if self.local and not Path(self.path(name)).resolve().is_relative_to(Path(self.path()).resolve()):
            return False
        return self._kind(name) == FileType.Directory

    def _kind(self, name: str) -> FileType:
        with self.reaching():
            return self.filesystem.get_file_info(self.path(name)).type

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        with self.reaching():
            try:
                with self.filesystem.open_input_stream(self.path(name)) as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: a reader sees the old content or the new."""
        filesystem, path = self.filesystem, self.path(name)
        direct = filesystem.type_name in _OBJECT_STORES
        target = path if direct else f"{path}.{uuid.uuid4().hex}.new"
        with self.reaching():
            if not direct:
                filesystem.create_dir(posixpath.dirname(path))
            with filesystem.open_output_stream(target) as stream:
                stream.write(content)
            if not direct:
                filesystem.move(target, path)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it, if it is there."""
        kind = self._kind(name)
        with self.reaching(), contextlib.suppress(FileNotFoundError):
            if kind == FileType.File:
                self.filesystem.delete_file(self.path(name))
            elif kind == FileType.Directory:
                self.filesystem.delete_dir(self.path(name))

    def entries(self, folder: str = "") -> list[str]:
        """Names of the files and folders directly in `folder`, sorted; [] if there is none."""
        selector = FileSelector(self.path(folder), allow_not_found=True)
        with self.reaching():
            found = self.filesystem.get_file_info(selector)
        return sorted(posixpath.join(folder, posixpath.basename(info.path.rstrip("/"))) for info in found)

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """What goes wrong in the body is a WriteError that names the storage."""
        try:
            yield
        except (ArrowException, OSError) as error:
            raise WriteError(
                f"the storage path {self.url} cannot be read or written: {reason(error)}. All that was finished is "
                "stored; when that is mended, run the same command again."
            ) from error


def join_remote(url: str, name: str, study: str) -> Remote:
    """The remote folder of the study `name` under `url`, which is that of the study with this identifier alone.

    Raises StudyError if another study uses it, or if it cannot be written.
    """
    if not re.fullmatch(r"\w+", study):  # it names a folder on each node, and may be a stranger's
        raise StudyError(f"the study's identifier is {shown(study)}, which no study was given.")
    remote = Remote(url, name, study)
    try:
        owner = remote.read(OWNER)
        if owner is None:
            remote.write(OWNER, study.encode())
    except WriteError as error:
        raise StudyError(
            f"{str(error).partition('. ')[0]}. Check --storage-path and the credentials for it."
        ) from error
    if owner is not None and owner.decode(errors="replace") != study:
        raise StudyError(
            f"{url} already holds another study's {name}: give another --storage-path, or --out a folder of another "
            "name."
        )
    return remote


@dataclass(frozen=True)
class StudyFiles:
    """A study's files as a process sees them: a folder, and the remote one behind it where there is one."""

    folder: Path
    remote: Remote | None = None

    @property
    def shared(self) -> Remote:
        """What driver and workers have in common."""
        return self.remote or Remote(str(Path(self.folder).absolute()))

    def on_this_node(self) -> "StudyFiles":
        """These files as a worker sees them: with a remote folder, through a folder of this node's own."""
        if self.remote is None:
            return self
        private = Path(tempfile.gettempdir()) / f"edgenes-{os.getuid()}"
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise StudyError(f"{private} must be a folder that is this user's alone: remove it, or set TMPDIR.")
        (private / self.remote.study).mkdir(exist_ok=True)
        return StudyFiles(private / self.remote.study, self.remote)

    def fetch(self, name: str, fresh: bool = False) -> Path:
        """The local path of a file, fetched if it is not here, or `fresh`, and there is a remote one."""
        path = self.folder / name
        if self.remote is not None and (fresh or not path.exists()):
            content = self.remote.read(name)
            if content is not None:
                write_atomically(path, lambda file: file.write(content))
        return path

    def publish(self, name: str) -> None:
        """Let other processes see a file of this folder."""
        if self.remote is not None:
            self.remote.write(name, (self.folder / name).read_bytes())

    def fetch_all(self, folder: str, suffix: str) -> None:
        """Fetch each file of a folder whose name ends so, if it is not here."""
        for name in self.remote.entries(folder) if self.remote is not None else ():
            if name.endswith(suffix):
                self.fetch(name)

    def forget(self, name: str) -> None:
        """Remove a file, here and there, if it is."""
        (self.folder / name).unlink(missing_ok=True)
        if self.remote is not None:
            self.remote.remove(name)
