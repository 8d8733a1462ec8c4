"""A port of a real router's (miniupnpd), asked for by NAT-PMP and by UPnP, and given back."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from netns import Internet, Machine, Router

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not all(map(shutil.which, ("miniupnpd", "nft"))), reason="miniupnpd or nft is not installed"),
]

LISTENER = textwrap.dedent("""
    import socket

    with socket.create_server(("", 22400)) as server:
        while True:
            with server.accept()[0] as connection:
                connection.send(b"hello")
""")

MAPPER = textwrap.dedent("""
    import sys, trio
    from shoal.bootstrap.portmap import PortMapper

    async def main():
        mapper = PortMapper(22400, lambda: print(mapper.mapped.way, mapper.mapped.address, flush=True))
        if sys.argv[1] == "upnp":
            mapper._gateway = lambda: None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mapper.run)
            await trio.to_thread.run_sync(sys.stdin.readline)
            nursery.cancel_scope.cancel()

    trio.run(main)
""")


RULES = """
table inet upnp {
    chain ports { type nat hook prerouting priority -100; jump ports_in; }
    chain forward { type filter hook forward priority 0; jump forward_in; }
    chain masks { type nat hook postrouting priority 100; jump masks_in; }
    chain ports_in { }
    chain forward_in { }
    chain masks_in { }
}
"""

CONFIG = """
ext_ifname=eth0
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=forward_in
upnp_nat_chain=ports_in
upnp_nat_postrouting_chain=masks_in
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 {lan}.0/24 1024-65535
"""


def serve(router: Router, place: Path) -> subprocess.Popen[bytes]:
    """Have a router give ports to who asks for them."""
    (place / "rules").write_text(RULES)
    router.run("nft", "-f", str(place / "rules"))
    config = place / "miniupnpd.conf"
    config.write_text(CONFIG.format(lan=router.lan))
    return router.start("miniupnpd", "-d", "-f", str(config), "-P", str(place / "pid"), stderr=subprocess.DEVNULL)


def reaches(machine: Machine, address: str) -> bool:
    """Return whether a connection to the router's port comes through."""
    probe = f"import socket; print(socket.create_connection(({address!r}, 22400), 2).recv(5).decode())"
    done = subprocess.run([*machine.prefix, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "hello"


@pytest.mark.parametrize("way", ["nat-pmp", "upnp"])
def test_a_port_of_the_router_leads_here_as_long_as_it_is_wanted(internet: Internet, tmp_path: Path, way: str) -> None:
    outside, router = internet.host("outside"), internet.router("home", "cone")
    device = router.device("device")
    daemon = serve(router, tmp_path)
    listener = device.start(sys.executable, "-c", LISTENER)
    mapper = device.start(sys.executable, "-c", MAPPER, way, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert mapper.stdout is not None
        assert mapper.stdin is not None
        assert mapper.stdout.readline().split() == [way, f"/ip4/{router.address}/tcp/22400"]
        assert reaches(outside, router.address)
        mapper.stdin.write("enough\n")
        mapper.stdin.flush()
        assert mapper.wait(20) == 0
        assert not reaches(outside, router.address), "it was given back"
    finally:
        for process in (mapper, listener, daemon):
            process.kill()
            process.communicate()
