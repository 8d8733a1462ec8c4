"""What a device that is not of the account gets: nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from nodes import Node, free_port, running

from shoal.bootstrap.host import run_host
from shoal.bootstrap.peerid import device_from_text
from shoal.transfer.messages import Want, encode
from shoal.transfer.stream import FrameStream, StreamClosed

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("strangers") / "home")
    with running(started):
        yield started


@pytest.mark.parametrize("protocol", ["/shoal/sync/1", "/shoal/exchange/1"])
async def test_an_unpaired_device_gets_not_a_byte(node: Node, tmp_path: Path, protocol: str) -> None:
    kept = tmp_path / protocol.split("/")[2]
    kept.mkdir()
    (kept / "secret").write_text("secret")
    await trio.to_thread.run_sync(node.run, "folder", "add", str(kept))
    status = await trio.to_thread.run_sync(node.json, "status")
    address, _, name = status["device"]["addresses"][0].rpartition("/p2p/")
    async with run_host(secrets.token_bytes(32), [f"/ip4/127.0.0.1/tcp/{free_port()}"]) as stranger:
        device = device_from_text(name)
        await stranger.connect(device, [address])
        got = b""
        try:
            frames = FrameStream(await stranger.open(device, protocol))
            folder = bytes.fromhex(status["folders"][-1]["id"])
            await frames.send(encode(Want(1, folder, (bytes(32),))))
            with trio.move_on_after(3):
                got = await frames.stream.receive_some(100)
        except StreamClosed:
            pass
        assert got == b""
    assert (await trio.to_thread.run_sync(node.json, "peers")) == []
