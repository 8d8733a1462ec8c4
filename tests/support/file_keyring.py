"""A keyring of the operating system, as far as the tests need one: in the file that FILE_KEYRING names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class FileKeyring(KeyringBackend):
    """Chosen by PYTHON_KEYRING_BACKEND=file_keyring.FileKeyring."""

    priority = 1

    def _all(self) -> dict[str, str]:
        path = Path(os.environ["FILE_KEYRING"])
        found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        Path(os.environ["FILE_KEYRING"]).write_text(json.dumps({**self._all(), f"{service}/{username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        found = self._all()
        if found.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError("not there")
        Path(os.environ["FILE_KEYRING"]).write_text(json.dumps(found))
