"""The synced tree's rows."""

from pathlib import Path

import cbor2
import pytest
from engines import FOLDER, Device, running, settle

from shoal.crdt.model import ROOT
from shoal.node.folder.local import SIGNATURE, row_of

pytestmark = pytest.mark.trio


def as_older_versions_wrote(device: Device) -> int:
    """Put the rows of nodes and of children in their older form; return how many there were."""
    store, count = device.store, 0
    for key, row in list(store.scan("local", FOLDER + b"c")):
        store.write([("local", key, row[:16])], sync=True)
    for key, row in list(store.scan("local", FOLDER + b"n")):
        fields = cbor2.loads(row)
        fields[5] = list(SIGNATURE.unpack(fields[5]))
        store.write([("local", key, cbor2.dumps(fields))], sync=True)
        count += 1
    return count


async def test_rows_of_older_versions_say_what_they_said(tmp_path: Path) -> None:
    device = Device(1, tmp_path / "root")
    (device.root / "folder").mkdir()
    for name in ("a", "folder/b", "folder/c"):
        (device.root / name).write_text(name)
    async with running(device):
        await settle(device)
    told = dict(device.replica.frontier)
    assert as_older_versions_wrote(device) == 4
    (device.root / "folder" / "c").unlink()
    device = Device(1, tmp_path / "root", device.store)
    async with running(device):
        await settle(device)
        (head,) = device.replica.frontier.values()
        assert head.length == next(iter(told.values())).length + 1  # the deletion alone
        (device.root / "folder" / "b").write_text("changed")
        await settle(device)
        node = device.engine.index.find("folder/b")
        assert node is not None
        record = device.engine.index.get(node)
        assert record is not None
        assert record.signature.size == len("changed")
        assert device.engine.index.find("folder/c") is None


async def test_a_row_tells_whether_a_file_is_as_it_was(tmp_path: Path) -> None:
    device = Device(1, tmp_path / "root")
    (device.root / "f").write_text("text")
    async with running(device):
        await settle(device)
    index = device.engine.index
    (record,) = [index.get(node) for node in index.children(ROOT).values()]
    assert record is not None
    assert index.rows(ROOT) == {"f": row_of(record.id, False, record.signature)}
    index.put_signature(record, record.signature._replace(mtime_ns=-1))
    assert index.rows(ROOT) == {"f": row_of(record.id, False, record.signature._replace(mtime_ns=-1))}
