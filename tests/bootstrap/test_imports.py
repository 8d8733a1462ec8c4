"""What must not be needed, or not be loaded."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_network_runs_without_fastecdsa_which_has_no_wheel_for_linux() -> None:
    done = python(
        "import sys; sys.modules['fastecdsa'] = None\n"
        "import trio\n"
        "from shoal.bootstrap.host import run_host\n"
        "async def main():\n"
        "    async with run_host(bytes(32), ['/ip4/127.0.0.1/tcp/0']) as host:\n"
        "        print(host.addresses())\n"
        "trio.run(main)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "/p2p/12D3Koo" in done.stdout


def test_the_cli_does_not_load_the_network_the_store_or_the_api() -> None:
    done = python(
        "import sys\n"
        "import shoal.node.cli.main\n"
        "print([name for name in ('libp2p', 'rocksdict', 'pycrdt', 'fastapi', 'trio') if name in sys.modules])\n"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_peer_ids_and_codes_are_had_without_libp2p() -> None:
    done = python(
        "import sys\n"
        "import shoal.bootstrap.peerid, shoal.bootstrap.pairing_codes, shoal.bootstrap.pairing\n"
        "print('libp2p' in sys.modules)\n"
    )
    assert done.stdout.strip() == "False", done.stderr
