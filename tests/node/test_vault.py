"""Sealed secrets: what opens them, what does not, and a crash between any two steps."""

from __future__ import annotations

import random
from pathlib import Path

import nacl.pwhash
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.keys import DeviceKey
from shoal.node import vault
from shoal.node.account import ACCOUNT, Account
from shoal.node.errors import UserError
from shoal.node.home import Home
from shoal.node.store import MemoryStore
from shoal.node.vault import OPEN, Vault, is_sealed, make, open_vault, remove, way_of

PASSWORD = "seven brown kettles sing"
KEY = DeviceKey(b"k" * 32)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(vault, "OPERATIONS", nacl.pwhash.argon2id.OPSLIMIT_MIN)
    monkeypatch.setattr(vault, "MEMORY", nacl.pwhash.argon2id.MEMLIMIT_MIN)
    return Home(tmp_path)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring of the system."""
    import keyring
    from file_keyring import FileKeyring

    monkeypatch.setenv("FILE_KEYRING", str(tmp_path / "keyring"))
    keyring.set_keyring(FileKeyring())  # type: ignore[no-untyped-call]


def test_without_a_vault_nothing_is_sealed(home: Home) -> None:
    assert way_of(home) is None
    assert open_vault(home, None).seal(b"plain", b"use") == b"plain"


def test_what_was_sealed_opens_with_the_password_alone_for_the_same_use(home: Home) -> None:
    sealed = make(home, PASSWORD).seal(b"plain", b"use")
    assert b"plain" not in sealed
    assert way_of(home) == "password"
    assert open_vault(home, PASSWORD).open(sealed, b"use") == b"plain"
    with pytest.raises(UserError, match="wrong"):
        open_vault(home, PASSWORD + "!")
    with pytest.raises(UserError, match="sealed with a password"):
        open_vault(home, None)
    with pytest.raises(UserError, match="damaged"):
        open_vault(home, PASSWORD).open(sealed, b"another use")
    with pytest.raises(UserError, match="is not there"):
        OPEN.open(sealed, b"use")


@pytest.mark.usefixtures("system")
def test_with_a_keyring_it_opens_by_itself_and_not_with_anothers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = make(home, None).seal(b"plain", b"use")
    assert open_vault(home, None).open(sealed, b"use") == b"plain"
    monkeypatch.setenv("FILE_KEYRING", str(home.path / "another"))
    with pytest.raises(UserError, match="no key for this home"):
        open_vault(home, None)


@pytest.mark.usefixtures("system")
def test_what_the_keyring_had_is_gone_with_the_vault(home: Home) -> None:
    make(home, None)
    remove(home)
    assert way_of(home) is None
    assert PASSWORD not in (home.path / "keyring").read_text()
    assert (home.path / "keyring").read_text() == "{}"


def test_where_there_is_no_keyring_that_is_said(home: Home) -> None:
    import keyring
    from keyring.backends.fail import Keyring

    keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match="no keyring"):
        make(home, None)
    assert way_of(home) is None


@given(st.binary(max_size=200))
def test_a_damaged_vault_is_told(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        damaged = Home(Path(folder))
        damaged.vault.write_bytes(data)
        with pytest.raises(UserError, match="damaged"):
            open_vault(damaged, PASSWORD)


# -- what is sealed ----------------------------------------------------------------------------------------------------


def opened(store: MemoryStore, with_: Vault) -> Account:
    return Account(store, KEY, "device", lambda: 1000, random.Random(1).randbytes, with_)


def test_an_account_is_sealed_and_unsealed_and_is_the_same(home: Home) -> None:
    store = MemoryStore()
    account = opened(store, OPEN)
    entry = account.add_folder("Photos")
    made = make(home, PASSWORD)
    account.write_with(made)
    saved = store.get("meta", ACCOUNT)
    assert saved is not None
    assert is_sealed(saved)
    assert entry.secrets[0][1] not in saved
    assert opened(store, made).folders() == account.folders()
    account.add_folder("Letters")
    assert is_sealed(store.get("meta", ACCOUNT) or b"")
    account.write_with(OPEN)
    assert opened(store, OPEN).folders() == account.folders()


def test_after_a_crash_between_the_steps_the_rest_is_sealed_at_the_next_start(home: Home) -> None:
    store = MemoryStore()
    opened(store, OPEN).add_folder("Photos")
    seed = home.device_seed(OPEN)
    make(home, PASSWORD)  # and then the power went
    again = open_vault(home, PASSWORD)
    assert home.device_seed(again) == seed
    assert is_sealed(home.key.read_bytes())
    assert opened(store, again).folder_named("Photos") is not None
    assert is_sealed(store.get("meta", ACCOUNT) or b"")


def test_a_new_key_is_sealed_where_the_vault_seals(home: Home) -> None:
    made = make(home, PASSWORD)
    seed = home.device_seed(made)
    assert is_sealed(home.key.read_bytes())
    assert home.device_seed(open_vault(home, PASSWORD)) == seed
