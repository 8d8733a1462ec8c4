"""A node's home: its key, its store, its log, and how the CLI finds the running daemon. Nobody else may read it."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.private import write_private

if TYPE_CHECKING:
    from shoal.node.vault import Vault

SEED = 32  # bytes
ACCOUNTS = "accounts"  # the folder of the homes of other accounts on the node
MAX_ACCOUNT = 32  # characters of such an account's name
DEFAULT_LISTEN = "/ip4/0.0.0.0/tcp/22400"
DEFAULT_API = "127.0.0.1:8484"


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of a home."""

    path: Path

    @property
    def key(self) -> Path:
        return self.path / "device.key"

    @property
    def vault(self) -> Path:
        """Opens the sealed secrets; not there where they are not sealed."""
        return self.path / "vault"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def fault(self) -> Path:
        """Says why the daemon ended by itself; not there otherwise."""
        return self.path / "fault"

    @property
    def log(self) -> Path:
        return self.path / "daemon.log"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def token(self) -> Path:
        return self.path / "api.token"

    @property
    def api(self) -> Path:
        """Holds `host:port` of the running daemon's API."""
        return self.path / "api.address"

    def of_account(self, name: str) -> Home:
        """Return the home of another account on this node. Raises UserError for a name that none can have."""
        fits = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and name == name.lower()
        if not fits or len(name) > MAX_ACCOUNT:
            raise UserError(
                "bad-name",
                f"{name!r} cannot be an account's name",
                f"small letters, digits, - and _, {MAX_ACCOUNT} at most",
                EXIT_USAGE,
                400,
            )
        return Home(self.path / ACCOUNTS / name)

    def accounts(self) -> list[Home]:
        """Return the homes of the other accounts on this node."""
        folder = self.path / ACCOUNTS
        return [Home(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []

    def ensure(self) -> None:
        """Make the home, mode 0700. Raises UserError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
        except OSError as error:
            raise UserError(
                "home-unusable",
                f"cannot use {self.path} as Shoal's home: {error.strerror}",
                "choose another with --home",
            ) from error

    def device_seed(self, vault: Vault) -> bytes:
        """Return the device key's 32 secret bytes, drawn at the first call, and sealed if the vault seals. Raises
        UserError when they are damaged."""
        if not self.key.exists():
            self.write_seed(secrets.token_bytes(SEED), vault)
        data = self.key.read_bytes()
        seed = vault.open(data, b"device key")
        if len(seed) == SEED and vault.is_sealing and seed == data:  # a crash came between
            self.write_seed(seed, vault)
        if len(seed) != SEED:
            raise UserError(
                "key-damaged",
                f"the device key {self.key} is damaged: it has {len(seed)} bytes instead of 32",
                "restore it from a backup, or move it away to become a new device",
            )
        return seed

    def write_seed(self, seed: bytes, vault: Vault) -> None:
        """Write the device key. Raises OSError."""
        write_private(self.key, vault.seal(seed, b"device key"))

    def hold_lock(self) -> int:
        """Make sure that one daemon alone uses this home, until the process ends. Raises UserError."""
        fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise UserError(
                "already-running", f"a node is running with the home {self.path}", "stop it: shoal down"
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        return fd


def find_home(option: str | None) -> Home:
    """Return the home: `--home`, else SHOAL_HOME, else the platform's config folder."""
    chosen = option or os.environ.get("SHOAL_HOME")
    if chosen:
        return Home(Path(os.path.abspath(os.path.expanduser(chosen))))
    import platformdirs

    return Home(Path(platformdirs.user_config_dir("shoal")))


def split_bind(text: str) -> tuple[str, int]:
    """Read `host:port`. Raises UserError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UserError(
            "bad-address", f"{text!r} is not an address like {DEFAULT_API}", "give --api HOST:PORT", EXIT_USAGE
        )
    return host.strip("[]"), int(port)


def parse_bulk(text: str) -> int | Literal["off"] | None:
    """Read what --bulk says: a port, 0 for any; "off"; None when nothing was said. Raises UserError."""
    if text in ("", "off"):
        return "off" if text else None
    if not text.isdigit() or int(text) > 65535:
        raise UserError("bad-port", f"{text!r} is no port for bulk channels", "give --bulk PORT or off", EXIT_USAGE)
    return int(text)
