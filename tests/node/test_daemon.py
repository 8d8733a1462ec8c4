"""Who a node tells of what."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.keys import DeviceKey
from shoal.crdt.model import DeviceId
from shoal.node.daemon import Node
from shoal.node.session import Session
from shoal.node.store import MemoryStore


class Listener:
    """A session that counts what is said in it."""

    def __init__(self) -> None:
        self.hellos = 0

    def say_hello(self) -> None:
        self.hellos += 1


def test_where_a_device_is_reached_is_passed_on_to_those_who_were_there_before(tmp_path: Path) -> None:
    node = Node(MemoryStore(), bytes(32), "node", tmp_path)
    first, second = (DeviceKey(bytes([number]) * 32).id for number in (1, 2))
    sessions = {first: Listener(), second: Listener()}
    node.sessions.update(cast("dict[DeviceId, Session]", sessions))
    for _ in range(2):  # what is known already is not said again
        node.on_hello(second, [f"/ip4/127.0.0.1/tcp/4001/p2p/{peer_id_text(second)}"])
        assert (sessions[first].hellos, sessions[second].hellos) == (1, 0)
