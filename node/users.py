"""Who may use this node's API: a person with a name and a password, and the tokens that logging in gives.

Nothing that follows from the password leaves the device: it is kept as Argon2id's string (RFC 9106, libsodium's
interactive limits: 64 MiB), a token as its BLAKE3. Whoever can read the home has a token of its own in it, and needs no
password: these are for the page, for programs and for other machines.

Of one name, after `FREE` wrong passwords each further try is delayed by twice as long, and so is one of any name after
`FREE_ALL`: tries before that are refused without a look at the password.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import blake3
import cbor2
import nacl.exceptions
import nacl.pwhash

from shoal.crdt import codec
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.store import Store, StoreDamaged

USER, TOKENS = b"user", b"tokens"
VALID_MS = 30 * 24 * 3600 * 1000
TOKEN = 32  # bytes
MOST_TOKENS = 200
LEAST_PASSWORD, MOST_PASSWORD = 8, 256  # characters
STRENGTH = 2  # of zxcvbn's 0 to 4: under 10^6 guesses is too few
MAX_USERNAME, MAX_TEXT, MAX_AVATAR = 32, 128, 256 * 1024
IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
FREE, FREE_ALL = 3, 20  # wrong passwords, of one name and of all
DELAY, DELAY_MOST = 1.0, 900.0  # seconds


@dataclass(frozen=True, slots=True)
class User:
    """The person this node is for. `avatar`: an image's bytes, or none."""

    username: str
    password: str = field(repr=False)
    name: str = ""
    email: str = ""
    avatar: bytes = field(default=b"", repr=False)
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A log-in that is valid until `until_ms`. `id` is for people, and no secret."""

    id: str
    digest: bytes = field(repr=False)
    label: str
    made_ms: int
    until_ms: int


class Throttled(Exception):
    """There were too many wrong passwords. `seconds`: how long to wait."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Throttle:
    """How long after wrong passwords the next may be tried. `now`: seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, float]] = {}  # by name, "" for all: how many, and when the last was

    def check(self, name: str, now: float) -> None:
        """Raises Throttled."""
        wait = max(self._until(name, FREE), self._until("", FREE_ALL)) - now
        if wait > 0:
            raise Throttled(wait)

    def wrong(self, name: str, now: float) -> None:
        """Somebody gave a wrong password, or a name that nobody has."""
        for each in ("", name):
            count, at = self._wrong.get(each, (0, now))
            forgotten = now - at > DELAY_MOST
            self._wrong[each] = (1 if forgotten else count + 1), now
        if len(self._wrong) > 1000:
            self._wrong = {each: told for each, told in self._wrong.items() if now - told[1] <= DELAY_MOST}

    def right(self, name: str) -> None:
        """Somebody gave the right one."""
        self._wrong.pop(name, None)

    def _until(self, name: str, free: int) -> float:
        count, at = self._wrong.get(name, (0, 0.0))
        return at + min(DELAY_MOST, DELAY * 2.0 ** min(20, count - free)) if count >= free else at


class Users:
    """The person of this node, and the tokens, in its store."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self.throttle = Throttle()
        self.user = self._read_user()
        self._tokens = self._read_tokens()

    # -- the person --------------------------------------------------------------------------------------------------

    def register(self, username: str, password: str, *, name: str = "", email: str = "") -> User:
        """Give this node a person. Slow on purpose: belongs in a thread. Raises UserError."""
        if self.user is not None:
            raise _bad(
                "name-taken", f"this node is {self.user.username}'s already", "a node has one person: shoal profile"
            )
        username = _username(username)
        check_password(password, username, name, email)
        made = User(username, _hash(password), _text("name", name), _email(email), since_ms=self._now_ms())
        self._save_user(made)
        return made

    def change(self, *, name: str | None = None, email: str | None = None, avatar: bytes | None = None) -> User:
        """Change what is not None. Raises UserError."""
        user = self._the_user()
        if name is not None:
            user = replace(user, name=_text("name", name))
        if email is not None:
            user = replace(user, email=_email(email))
        if avatar is not None:
            _check_avatar(avatar)
            user = replace(user, avatar=avatar)
        self._save_user(user)
        return user

    def set_password(self, password: str) -> None:
        """Set another password; all tokens end. Slow: belongs in a thread. Raises UserError."""
        user = self._the_user()
        check_password(password, user.username, user.name, user.email)
        self._save_user(replace(user, password=_hash(password)))
        self._save_tokens({})

    def is_right(self, username: str, password: str) -> bool:
        """Return whether the password is the person's. Slow, and as slow where nobody has that name."""
        user = self.user
        known = user is not None and hmac.compare_digest(user.username.encode(), username.strip().lower().encode())
        stored = user.password if user is not None and known else _NOBODY
        try:
            nacl.pwhash.verify(stored.encode(), password.encode())
        except (nacl.exceptions.CryptoError, ValueError):
            return False
        return known

    # -- tokens ------------------------------------------------------------------------------------------------------

    def new_token(self, label: str) -> tuple[str, Token]:
        """Return a fresh token, which is kept nowhere, and what is known of it."""
        text, now = secrets.token_urlsafe(TOKEN), self._now_ms()
        made = Token(secrets.token_hex(4), _digest(text), _text("label", label), now, now + VALID_MS)
        kept = sorted(self.tokens(), key=lambda token: token.made_ms)[-(MOST_TOKENS - 1) :]
        self._save_tokens({token.digest: token for token in [*kept, made]})
        return text, made

    def token(self, text: str) -> Token | None:
        """Return what is known of a token that is valid."""
        found = self._tokens.get(_digest(text))
        return found if found is not None and self._now_ms() < found.until_ms else None

    def tokens(self) -> list[Token]:
        """Return those that are valid."""
        return [token for token in self._tokens.values() if self._now_ms() < token.until_ms]

    def revoke(self, id_: str) -> None:
        """End a token. Raises UserError."""
        if all(token.id != id_ for token in self._tokens.values()):
            raise UserError("no-such-token", f"there is no token {id_!r}", "see: shoal token list", status=404)
        self._save_tokens({digest: token for digest, token in self._tokens.items() if token.id != id_})

    # -- inside ------------------------------------------------------------------------------------------------------

    def _the_user(self) -> User:
        if self.user is None:
            raise UserError("not-registered", "nobody registered on this node", "do: shoal register NAME", status=404)
        return self.user

    def _save_user(self, user: User) -> None:
        fields = [user.username, user.password, user.name, user.email, user.avatar, user.since_ms]
        self._store.write([("meta", USER, cbor2.dumps(fields))], sync=True)
        self.user = user

    def _save_tokens(self, tokens: dict[bytes, Token]) -> None:
        rows = [[t.id, t.digest, t.label, t.made_ms, t.until_ms] for t in tokens.values()]
        self._store.write([("meta", TOKENS, cbor2.dumps(rows))], sync=True)
        self._tokens = tokens

    def _read_user(self) -> User | None:
        saved = self._read(USER)
        return User(*saved) if saved is not None else None

    def _read_tokens(self) -> dict[bytes, Token]:
        tokens = [Token(*row) for row in self._read(TOKENS) or []]
        return {token.digest: token for token in tokens}

    def _read(self, key: bytes) -> list[Any] | None:
        data = self._store.get("meta", key)
        try:
            return codec.as_list(cbor2.loads(data)) if data is not None else None
        except (cbor2.CBORError, ValueError) as error:
            raise StoreDamaged("who registered on it cannot be read") from error


def check_password(password: str, *about: str) -> None:
    """Raises UserError for a password that is guessed soon; `about`: what is known of the person."""
    from zxcvbn import zxcvbn  # here, because it costs 20 ms

    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        reason = f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters"
        raise _bad("weak-password", reason, "several words that do not belong together are a good one")
    found = zxcvbn(password[:72], user_inputs=[each for each in (*about, "shoal") if each])
    if found["score"] < STRENGTH:
        feedback = found["feedback"]
        hint = " ".join(text for text in (feedback["warning"], *feedback["suggestions"]) if text)
        raise _bad("weak-password", "this password is guessed soon", hint.rstrip(".").lower())


def _bad(code: str, message: str, hint: str = "") -> UserError:
    return UserError(code, message, hint, EXIT_USAGE, 409 if code == "name-taken" else 400)


def _username(text: str) -> str:
    name = text.strip().lower()
    fits = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not fits or len(name) > MAX_USERNAME or not name[0].isalnum():
        hint = f"letters, digits, - _ and ., {MAX_USERNAME} at most, the first a letter or a digit"
        raise _bad("bad-username", f"{text!r} cannot be a user's name", hint)
    return name


def _text(what: str, text: str) -> str:
    text = text.strip()
    if len(text) > MAX_TEXT or not text.isprintable():
        raise _bad(
            f"bad-{what}", f"this cannot be a {what}: {text[:MAX_TEXT]!r}", f"{MAX_TEXT} visible characters at most"
        )
    return text


def _email(text: str) -> str:
    text = _text("email", text)
    before, at, domain = text.rpartition("@")
    if text and (not at or not before or "." not in domain.strip(".") or " " in text):
        raise _bad("bad-email", f"{text!r} is no e-mail address", "for example anna@example.org")
    return text


def _check_avatar(image: bytes) -> None:
    if len(image) > MAX_AVATAR:
        raise _bad("bad-avatar", f"a picture has at most {MAX_AVATAR // 1024} KiB", "make it smaller")
    if image and media_type(image) is None:
        raise _bad("bad-avatar", "a picture is a PNG, JPEG, GIF or WebP file")


def media_type(image: bytes) -> str | None:
    """Return what kind of picture bytes are, None where it is none that is known."""
    return next((kind for magic, kind in IMAGES.items() if image.startswith(magic)), None)


def _hash(password: str) -> str:
    return nacl.pwhash.argon2id.str(password.encode()).decode().rstrip("\0")


def _digest(token: str) -> bytes:
    return blake3.blake3(token.encode(errors="replace")).digest()


# Of no password.
_NOBODY = "$argon2id$v=19$m=65536,t=2,p=1$c2hvYWwgc2hvYWwgc2hvYQ$" + 43 * "A"
