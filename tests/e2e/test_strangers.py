"""What a device that is not of the account gets: nothing."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import trio
from nodes import Node, free_port

from shoal.bootstrap.host import run_host
from shoal.bootstrap.peerid import device_from_text
from shoal.transfer.messages import Want, encode
from shoal.transfer.stream import FrameStream, StreamClosed

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("protocol", ["/shoal/sync/1", "/shoal/exchange/1"])
async def test_an_unpaired_device_gets_not_a_byte(nodes: tuple[Node, Node], tmp_path: Path, protocol: str) -> None:
    node = nodes[0]
    (tmp_path / "F").mkdir()
    (tmp_path / "F" / "secret").write_text("secret")
    await trio.to_thread.run_sync(node.run, "folder", "add", str(tmp_path / "F"))
    status = await trio.to_thread.run_sync(node.json, "status")
    address, _, name = status["device"]["addresses"][0].rpartition("/p2p/")
    async with run_host(secrets.token_bytes(32), [f"/ip4/127.0.0.1/tcp/{free_port()}"]) as stranger:
        device = device_from_text(name)
        await stranger.connect(device, [address])
        got = b""
        try:
            frames = FrameStream(await stranger.open(device, protocol))
            folder = bytes.fromhex(status["folders"][0]["id"])
            await frames.send(encode(Want(1, folder, (bytes(32),))))
            with trio.move_on_after(3):
                got = await frames.stream.receive_some(100)
        except StreamClosed:
            pass
        assert got == b""
    assert (await trio.to_thread.run_sync(node.json, "peers")) == []
