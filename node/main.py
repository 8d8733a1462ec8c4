"""Running a node in this process: `python -m shoal.node.main`, which is what `shoal up` starts."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import trio

from shoal.node.errors import EXIT_STORE, EXIT_USAGE, UserError
from shoal.node.home import DEFAULT_API, DEFAULT_LISTEN, Home, find_home, parse_bulk, split_bind
from shoal.node.priority import step_back
from shoal.node.private import write_private
from shoal.node.store import StoreDamaged, StoreFull

if TYPE_CHECKING:
    from shoal.bootstrap.bulk import BulkPort
    from shoal.crdt.model import DeviceId

UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
CHECK_SECONDS = 0.3  # of the start are for reading the store through
GARBAGE = (20_000, 20, 20)  # new objects, and rounds, after which the collector looks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="shoal up --foreground")
    parser.add_argument("--home")
    parser.add_argument("--listen", action="append")
    parser.add_argument("--bulk", default="")
    parser.add_argument("--api", default=DEFAULT_API)
    parser.add_argument("--no-mdns", action="store_true")
    parser.add_argument("--name", default="")
    parser.add_argument("--default-folder", action="store_true")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--password-stdin", action="store_true")
    parser.add_argument("--dht", choices=("auto", "server", "client", "off"), default="auto")
    parser.add_argument("--bootstrap", action="append", default=[])
    parser.add_argument("--no-port-mapping", action="store_true")
    parser.add_argument("--announce", action="append", default=[])
    parser.add_argument("--seed", action="store_true")
    parser.add_argument("--open", action="store_true", default=None)
    parser.add_argument("--closed", action="store_false", dest="open", default=None)
    parser.add_argument("--quota", type=int)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    home = find_home(options.home)
    if not options.eager:
        step_back()
    password = sys.stdin.readline().rstrip("\n") if options.password_stdin else None
    try:
        trio.run(_run, home, options, password)
    except KeyboardInterrupt:
        return 0
    except Exception as raised:
        error = next(filter(None, (_told(home, leaf) for leaf in _leaves(raised))), None)
        if error is None:
            raise
        line = error.message + (f" ({error.hint})" if error.hint else "")
        with contextlib.suppress(OSError):  # its log may be on that disk, too; nothing is to wait in a buffer then
            os.write(2, f"error: {line}\n".encode(errors="replace"))
        if error.code == "store-damaged":
            with contextlib.suppress(OSError):
                write_private(home.fault, line.encode())
        return error.exit_code
    return 0


def _leaves(raised: BaseException) -> Iterator[BaseException]:
    if isinstance(raised, BaseExceptionGroup):
        for inner in raised.exceptions:
            yield from _leaves(inner)
    else:
        yield raised


def _told(home: Home, error: BaseException) -> UserError | None:
    """Return what a person is told of an error that ends the node, None where it is a fault of Shoal's."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, StoreDamaged):
        return UserError(
            "store-damaged",
            f"the store {home.store} is damaged: {error}; your files are untouched",
            "shoal repair moves it aside and builds it anew from your folders and your other devices",
            EXIT_STORE,
        )
    if isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in UNUSABLE):
        reason = "the disk is full" if isinstance(error, StoreFull) else error.strerror
        return UserError(
            "home-unusable",
            f"cannot write in Shoal's home {home.path}: {reason}",
            "it needs a disk with free space that you may write to",
            EXIT_STORE,
        )
    return None


async def _run(home: Home, options: argparse.Namespace, password: str | None) -> None:
    from shoal.bootstrap.host import ListenError, run_host
    from shoal.bootstrap.limits import SEED_FROM_ONE, SEED_TOTAL, InboundLimits
    from shoal.node.api.server import serve_api
    from shoal.node.backup import BACKUP, restore
    from shoal.node.daemon import Node, default_folder
    from shoal.node.scrub import Scrub
    from shoal.node.store.rocks import open_store
    from shoal.node.vault import open_vault

    # What was imported stays, and records of files hold no cycles: looking for garbage took a fifth of a first scan.
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    home.ensure()
    lock = home.hold_lock()
    bind = split_bind(options.api)
    _check_bind(*bind)
    vault = open_vault(home, password)
    seed = home.device_seed(vault)
    store = open_store(home.store)
    scrub = Scrub(store)
    scrub.begin(CHECK_SECONDS)
    home.fault.unlink(missing_ok=True)
    token = secrets.token_urlsafe(32)
    write_private(home.token, token.encode())
    try:
        restored = restore(store, home.path / BACKUP)
        node = Node(store, seed, options.name, home.path, vault)
        node.finding.mode = options.dht
        node.ways.names = options.announce
        node.ways.maps_ports = not options.no_port_mapping
        node.finding.bootstrap = _bootstrap(options.bootstrap)
        if options.seed:
            node.serve_as_seed().set(is_open=options.open, quota=options.quota)
        if restored:
            node.events.add("restored", "the store was lost: account and folders are back from their copy")
        listen = options.listen or [DEFAULT_LISTEN]
        limits = InboundLimits(SEED_TOTAL, SEED_FROM_ONE) if options.seed else None
        async with run_host(seed, listen, limits) as host, trio.open_nursery() as nursery:
            bulk = _bulk_port(listen, options)
            nursery.start_soon(_stop_on_signals, node.stopping)
            nursery.start_soon(serve_api, node, bind, token, home, not options.no_mdns, listen)
            if options.default_folder and not node.has_folders():
                nursery.start_soon(_add_default, node, str(default_folder()))
            nursery.start_soon(scrub.run)
            await node.run(host, mdns=not options.no_mdns, bulk=bulk)
            nursery.cancel_scope.cancel()
    except ListenError as error:
        raise UserError("listen-failed", str(error), "choose another with --listen, or stop what uses it") from error
    finally:
        with contextlib.suppress(OSError):
            home.api.unlink()
        with contextlib.suppress(StoreDamaged):
            store.close()
        os.close(lock)


def _bulk_port(listen: Sequence[str], options: argparse.Namespace) -> BulkPort | None:
    """Of several nodes on a machine only the one that listens as usual has the usual port."""
    from shoal.bootstrap.bulk import listen_for_bulk

    port = parse_bulk(options.bulk)
    if port == "off":
        return None
    return listen_for_bulk(listen, port if port is not None else 0 if options.listen else None)


def _bootstrap(texts: list[str]) -> dict[DeviceId, tuple[str, ...]]:
    from shoal.node.finding import parse_bootstrap

    try:
        return parse_bootstrap(texts)
    except ValueError as error:
        raise UserError("bad-address", str(error), "give --bootstrap /ip4/HOST/tcp/PORT/p2p/ID", EXIT_USAGE) from error


def _check_bind(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                "api-port", f"the API cannot listen on {host}:{port}: {error.strerror}", "choose another with --api"
            ) from error


async def _stop_on_signals(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stopping.set()


async def _add_default(node: object, path: str) -> None:
    from shoal.node.daemon import Node

    assert isinstance(node, Node)
    await node.ready.wait()
    node.folder_add(path, "Shoal", create=True)


if __name__ == "__main__":
    sys.exit(main())
