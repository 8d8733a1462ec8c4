"""What somebody sees who listens on the network while devices pair, sync, share and are revoked: nothing."""

from __future__ import annotations

import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nodes import Node, running, say, wait_in_sync

pytestmark = pytest.mark.e2e
EVERYTHING = 0x0003  # ETH_P_ALL


class Wiretap:
    """All TCP that goes over the loopback, but for some ports: which canaries were in it, and how much it was."""

    def __init__(self, canaries: dict[str, bytes], leaving_out: set[int]) -> None:
        self.heard: set[str] = set()
        self.size = 0
        self._canaries = canaries
        self._leaving_out = leaving_out
        self._tails: dict[bytes, bytes] = {}  # of each direction of a connection, as a canary may lie in two packets

    def take(self, packet: bytes) -> None:
        """Look at an Ethernet frame."""
        if packet[12:14] != b"\x08\x00" or packet[23] != socket.IPPROTO_TCP:
            return
        start = 14 + (packet[14] & 15) * 4
        source, target = struct.unpack_from("!HH", packet, start)
        if {source, target} & self._leaving_out:
            return
        payload = packet[start + (packet[start + 12] >> 4) * 4 : 14 + int.from_bytes(packet[16:18])]
        self.size += len(payload)
        way = packet[26:34] + packet[start : start + 4]
        seen = self._tails.get(way, b"") + payload
        self.heard |= {name for name, canary in self._canaries.items() if canary in seen}
        self._tails[way] = seen[-64:]


@contextmanager
def listening(tap: Wiretap) -> Iterator[None]:
    """Have the tap hear all that goes over the loopback in the block."""
    try:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
    except PermissionError:
        pytest.skip("what goes over the loopback can be heard by root alone")
    over = threading.Event()

    def hear() -> None:
        while not over.is_set():
            try:
                tap.take(wire.recv(1 << 17))
            except TimeoutError:
                continue

    with wire:
        wire.bind(("lo", 0))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        wire.settimeout(0.1)
        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def send_in_the_clear(canary: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        sender.sendall(canary)
        assert receiver.recv(1000) == canary
        receiver.close()


def test_nothing_that_leaves_a_device_is_in_the_clear(tmp_path: Path) -> None:
    def canary(what: str) -> str:
        return f"canary-{what}-{secrets.token_hex(6)}"

    file, shared, user, password, content = map(canary, ("file", "folder", "user", "password", "content"))
    one, other = Node(tmp_path / canary("one")), Node(tmp_path / canary("other"))
    guest = Node(tmp_path / canary("guest"))
    named = canary("named")
    said = [file, shared, user, password, content, one.home.name, other.home.name, guest.home.name, named]
    canaries = {text: text.encode() for text in said} | {"control": b"what is in the clear is heard"}
    tap = Wiretap(canaries, {int(node.api.rpartition(":")[2]) for node in (one, other, guest)})
    source, target, theirs = tmp_path / "source", tmp_path / "target", tmp_path / "theirs"
    (source / file).mkdir(parents=True)
    (source / f"{file}.txt").write_text(content)
    (source / file / "large").write_bytes(content.encode() * 100_000)
    with running(one, other, guest), listening(tap):
        send_in_the_clear(canaries["control"])
        assert say(one, password + "\n", "register", user, "--name", user).returncode == 0
        offer = one.json("pair")
        other.run("pair", offer["link"])
        one.run("folder", "add", str(source), "--name", shared)
        other.run("folder", "join", shared, str(target))
        wait_in_sync(one, other)
        assert (target / f"{file}.txt").read_text() == content
        guest.run("accept", one.json("share", shared, "--link", "--role", "writer")["link"], str(theirs))
        wait_in_sync(one, other, guest)
        assert (theirs / f"{file}.txt").read_text() == content
        one.run("unshare", shared, guest.home.name)
        one.run("device", "rename", other.home.name, named)
        one.run("device", "revoke", named, "--yes")
    assert tap.heard == {"control"}
    assert tap.size > 100_000 * len(content)
