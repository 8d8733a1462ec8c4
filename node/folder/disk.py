"""What the engine does to a disk: small functions on system calls, which run in threads and follow no symbolic link.

Paths are absolute; their parents are directories that the engine made or has seen, and where a part of a path became a
link since, the file system says so. What is replaced or removed is first moved to `.shoal/versions`.
"""

from __future__ import annotations

import contextlib
import errno
import stat as modes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os.path import dirname

from shoal.crdt.model import PERMISSIONS, Content, DirContent, FileContent, FolderId, LinkContent
from shoal.node.folder.filesystem import FileSystem, OpenFile
from shoal.node.folder.metadata import Metadata
from shoal.node.folder.signature import Signature
from shoal.node.store import MemoryStore, Staging
from shoal.transfer.chunking import Cut, FileChanged, chunk_file

BLOCK = 4096  # bytes of a file that a hole has at the least
CLEARED = 1 << 20  # bytes looked at at once
_ZEROS = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Seen:
    """A name in a directory as the disk has it; `signature` None: nothing is there."""

    directory: str  # relative, "" is the root
    name: str
    signature: Signature | None
    path: str = field(init=False, repr=False, compare=False)  # relative

    def __post_init__(self) -> None:
        path = f"{self.directory}/{self.name}" if self.directory else self.name
        object.__setattr__(self, "path", path)  # asked for a dozen times a file


def kind_of(signature: Signature) -> str:
    """Return "file", "dir", "link", or "other" for what cannot be synced (sockets, pipes, devices)."""
    if modes.S_ISREG(signature.mode):
        return "file"
    if modes.S_ISDIR(signature.mode):
        return "dir"
    return "link" if modes.S_ISLNK(signature.mode) else "other"


def is_same(found: Signature | None, expected: Signature) -> bool:
    """Return whether it is the same thing as before, unchanged but for its name, links and mode: those set `ctime`.

    A folder's times change with what is in it.
    """
    if found is None or (found.device, found.inode) != (expected.device, expected.inode):
        return False
    return kind_of(found) == "dir" or (found.size, found.mtime_ns) == (expected.size, expected.mtime_ns)


class Disk:
    """A file system, as the engine uses it."""

    def __init__(self, fs: FileSystem, metadata: Metadata | None = None) -> None:
        """`metadata`: what of it is kept here; all by default."""
        self.fs = fs
        self.clones = True  # until it says that files cannot share blocks
        self.metadata = metadata or Metadata(Staging(MemoryStore()), FolderId(bytes(16)))

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self, path: str) -> Signature | None:
        """Return the signature of what is at `path`, None when nothing is. Raises OSError for anything else."""
        try:
            return self.fs.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def look_quietly(self, path: str) -> Signature | None:
        """Return the signature of what is at `path`; None when nothing is, or it cannot be told."""
        try:
            return self.look(path)
        except OSError:
            return None

    def list_directory(self, path: str) -> list[tuple[str, Signature]]:
        """Return the names in a directory and their signatures. Raises OSError."""
        return self.fs.scan(path)

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_content(
        self, path: str, key: bytes, expected: Signature, base: Content | None = None, cut: Cut | None = None
    ) -> Content:
        """Read what is at `path` as content; `base`: the version that was there before, for what this device has no say
        in; `cut`: see `chunk_file`. Raises FileChanged when it is not what was `expected`, OSError."""
        mode = expected.mode & PERMISSIONS
        match kind_of(expected):
            case "dir":
                return self.metadata.seen(DirContent(mode), None, base)
            case "link":
                return LinkContent(self.fs.readlink(path), expected.mtime_ns)
            case "file":
                file = self.fs.open(path, "read")
                try:
                    if file.stat() != expected:
                        raise FileChanged("it changed since it was listed")
                    chunks = chunk_file(file, key, (expected.size, expected.mtime_ns, expected.ctime_ns), cut)
                    content = FileContent(expected.size, mode, expected.mtime_ns, chunks)
                    return self.metadata.seen(content, file.attributes(), base)
                finally:
                    file.close()
        raise FileChanged("it became something that cannot be synced")

    def read_piece(self, path: str, offset: int, length: int) -> bytes | None:
        """Return `length` bytes at `offset` of a regular file, None when they are not there."""
        try:
            file = self.fs.open(path, "read")
        except OSError:
            return None
        try:
            data = file.read(length, offset)
            return data if len(data) == length else None
        except OSError:
            return None
        finally:
            file.close()

    def read_piece_into(self, path: str, offset: int, view: memoryview) -> bool:
        """Fill the view with what is at `offset` of a regular file; return False when that is not there."""
        try:
            file = self.fs.open(path, "read")
        except OSError:
            return False
        try:
            return file.read_into(view, offset) == len(view)
        except OSError:
            return False
        finally:
            file.close()

    def read_text(self, path: str, most: int = 1 << 20) -> str:
        """Return a small file's text. Raises OSError."""
        file = self.fs.open(path, "read")
        try:
            return file.read(most, 0).decode("utf-8", "replace")
        finally:
            file.close()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write_piece(self, path: str, offset: int, data: bytes | memoryview, *, fresh: bool = False) -> None:
        """Write into a temporary, made if it is not there; `fresh`: nothing was written there yet, and where the data
        have whole blocks of zeros, a hole is left."""
        self.write_pieces(path, [(offset, data)], fresh=fresh)

    def write_pieces(
        self, path: str, pieces: Iterable[tuple[int, bytes | memoryview]], *, fresh: bool, passing: bool = False
    ) -> None:
        """Write several, (offset, data) each. `passing`: the file is so large that it is not to push all else out of
        memory."""
        file = self.fs.open(path, "write")
        try:
            for offset, data in pieces:
                view = memoryview(data)
                for start, end in _stretches(view, offset) if fresh else [(0, len(view))]:
                    at = start
                    while at < end:
                        at += file.write(view[at:end], offset + at, passing=passing)
        finally:
            file.close()

    def clear_piece(self, path: str, offset: int, length: int) -> None:
        """Have nothing but zeros in a part of a temporary, as far as it is there."""
        try:
            file = self.fs.open(path, "read")
        except FileNotFoundError:
            return
        try:
            at, end = offset, offset + length
            while (at := file.next_data(at)) < end:
                data = file.read(min(CLEARED, end - at), at)
                if not data:
                    return
                if any(data):
                    self.write_piece(path, at, bytes(len(data)))
                at += len(data)
        finally:
            file.close()

    def clone(self, source: str, temporary: str) -> bool:
        """Make a temporary that shares the blocks of a file; return whether that was done. Raises OSError."""
        if not self.clones:
            return False
        try:
            before = self.fs.open(source, "read")
        except OSError:
            return False
        try:
            made = self.fs.open(temporary, "write")
            try:
                cloned = made.clone_of(before)
            finally:
                made.close()
            if not cloned:
                self.clones = kind_of(before.stat()) != "file"
                self.remove_quietly(temporary)
            return cloned
        finally:
            before.close()

    def finish_temporary(self, path: str, content: Content) -> Signature:
        """Give a temporary its length, mode and time, or make the link that it is to be; return its signature."""
        if isinstance(content, LinkContent):
            self.remove_quietly(path)
            self.fs.symlink(content.target, path)
            self.fs.set_link_time(path, content.mtime_ns)
            return self.fs.lstat(path)
        assert isinstance(content, FileContent)
        file = self.fs.open(path, "write")
        try:
            file.truncate(content.size)
            return self._finish(file, content)
        finally:
            file.close()

    def write_temporary(self, path: str, content: FileContent, data: bytes | memoryview) -> Signature | OSError:
        """Make and finish the temporary of a file that is one chunk; return its signature, or what went wrong when the
        bytes were there. Nothing may have its name."""
        file = self.fs.open(path, "write")
        try:
            view = memoryview(data)
            at = 0
            for start, end in _stretches(view, 0):
                at = start
                while at < end:
                    at += file.write(view[at:end], at)
            try:
                if at < content.size:
                    file.truncate(content.size)
                return self._finish(file, content)
            except OSError as error:
                return error
        finally:
            file.close()

    def _finish(self, file: OpenFile, content: FileContent) -> Signature:
        if (attributes := self.metadata.attributes_here(content)) is not None:
            file.set_attributes(attributes)
        file.chmod(self.metadata.mode_here(content))
        file.set_time(content.mtime_ns)
        return file.stat()

    def write_whole(self, path: str, temporary: str, data: bytes) -> None:
        """Write a small file, whole or not at all, and durable."""
        self.remove_quietly(temporary)
        file = self.fs.open(temporary, "write")
        try:
            file.write(data, 0)
            file.sync()
        finally:
            file.close()
        self.fs.rename(temporary, path)
        self.sync_directories({dirname(path)})

    def sync_directories(self, paths: Iterable[str]) -> None:
        """Make the names in directories durable; one that is gone by now is no error."""
        for path in paths:
            try:
                folder = self.fs.open(path, "folder")
            except OSError:
                continue
            try:
                folder.sync()
            finally:
                folder.close()

    # -- names -------------------------------------------------------------------------------------------------------

    def rename_new(self, source: str, target: str) -> None:
        """Rename, but never onto something: raises FileExistsError then."""
        if self.fs.rename_new(source, target):
            return
        if self.look(target) is not None:  # a file system without the call: a short race is what is left
            raise FileExistsError(errno.EEXIST, "File exists", target)
        self.fs.rename(source, target)

    def remove_quietly(self, path: str) -> None:
        """Remove a file that may not be there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.unlink(path)

    @contextlib.contextmanager
    def writable(self, *directories: str) -> Iterator[None]:
        """Let the names in directories be changed although their mode forbids it, as a read-only folder's does; the
        mode is as it was afterwards. Where it cannot be changed, what is tried inside says why."""
        opened = []  # by descriptor: one of them may be renamed meanwhile
        for directory in directories:
            if not self.fs.may_write(directory):
                with contextlib.suppress(OSError):
                    folder = self.fs.open(directory, "look")
                    mode = modes.S_IMODE(folder.stat().mode)
                    opened.append((folder, mode))
                    folder.chmod(mode | 0o700)
        try:
            yield
        finally:
            for folder, mode in reversed(opened):
                with contextlib.suppress(OSError):
                    folder.chmod(mode)
                folder.close()

    def make_folder(self, path: str, content: DirContent) -> Signature:
        """Make a folder; a setgid bit that it inherits stays. Raises OSError."""
        self.fs.mkdir(path)
        folder = self.fs.open(path, "look")
        try:
            folder.chmod(_special(folder.stat()) | self.metadata.mode_here(content))
            return folder.stat()
        finally:
            folder.close()

    def set_meta(self, path: str, content: Content, expected: Signature) -> bool:
        """Set mode and time of what is at `path` to the content's; return False when it is not the `expected` any
        more. Raises OSError."""
        if isinstance(content, LinkContent):
            if not is_same(self.look(path), expected):
                return False
            self.fs.set_link_time(path, content.mtime_ns)
            return True
        file = self.fs.open(path, "look")
        try:  # by descriptor: whatever takes the name meanwhile keeps its own time, which tells it from what was here
            found = file.stat()
            if not is_same(found, expected):
                return False
            file.chmod(_special(found) | self.metadata.mode_here(content))
            if isinstance(content, FileContent):
                if (attributes := self.metadata.attributes_here(content)) is not None:
                    file.set_attributes(attributes)
                if content.mtime_ns != found.mtime_ns:  # an edit made right now would lose the time that tells of it
                    file.set_time(content.mtime_ns)
        finally:
            file.close()
        return True


def _stretches(data: memoryview, offset: int) -> list[tuple[int, int]]:
    """Return the parts of data that are more than zeros, by blocks of the file; `offset`: where they are in it."""
    first = -offset % BLOCK
    starts = bytes(data[first::BLOCK])  # of the blocks: nearly all have more than zeros there
    if all(data[at : at + BLOCK] != _ZEROS for at in _places_of_zero(starts, first)):
        return [(0, len(data))] if len(data) else []
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + BLOCK - (offset + at) % BLOCK)
        if data[at] or end - at < BLOCK or data[at:end] != _ZEROS:
            if found and found[-1][1] == at:
                found[-1] = found[-1][0], end
            else:
                found.append((at, end))
        at = end
    return found


def _places_of_zero(starts: bytes, first: int) -> Iterator[int]:
    at = -1
    while (at := starts.find(0, at + 1)) >= 0:
        yield first + at * BLOCK


def _special(signature: Signature) -> int:
    return modes.S_IMODE(signature.mode) & ~PERMISSIONS
