"""What the API says of a node: plain values, made from its state at the moment of asking."""

from __future__ import annotations

from typing import Any

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt.model import DeviceId
from shoal.node import conflicts
from shoal.node.daemon import Node, now_ms
from shoal.node.runtime import FolderRuntime


def shown(text: str) -> str:
    """Return text that may hold bytes that are not UTF-8 (a file's name) with these spelt out."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return text.encode("utf-8", "backslashreplace").decode()


def status(node: Node) -> dict[str, Any]:
    """Return the whole state: this device, its folders, the other devices."""
    folders = [folder_view(node, folder) for folder in node.folders.values()]
    partners = node.sharing.access.partners()
    devices = [device_view(node, device) for device in partners]
    # In sync: all that is connected is, and so are the folders here; and nobody is about to tell otherwise.
    connected = [device for device in devices if device["connected"]]
    in_sync = all(folder["in_sync"] for folder in folders)
    in_sync = in_sync and not any(node.expects(device) for device in partners)
    return {
        "device": {
            "id": peer_id_text(node.key.id),
            "name": node.account.name,
            "revoked": node.account.is_revoked,
            "addresses": node.host.addresses(),
            "account": node.account.id.hex(),
            "uptime_s": (now_ms() - node.started_ms) // 1000,
        },
        "folders": folders,
        "devices": devices,
        "traffic": {
            "received": node.fetcher.stats.received,
            "received_bulk": node.fetcher.stats.received_bulk,
            "sent": node.fetcher.stats.sent,
        },
        "limits": {"up": node.limits.in_force.up, "down": node.limits.in_force.down},
        "in_sync": in_sync and all(f["in_sync"] for d in connected for f in d["folders"]),
    }


def folder_view(node: Node, folder: FolderRuntime) -> dict[str, Any]:
    """Return one joined folder."""
    state = folder.engine.state()
    behind = any(
        not session.we_hold_all(folder.entry.id) and folder.entry.id in session.progress
        for session in node.sessions.values()
    )
    return {
        "name": folder.entry.name,
        "id": folder.entry.id.hex(),
        "path": shown(folder.path),
        "status": state.status,
        "reason": state.reason,
        "items": state.nodes,
        "needed_files": state.needed_files,
        "needed_bytes": state.needed_bytes,
        "held_deletions": state.held,
        "role": node.sharing.access.role(folder.entry.id),
        "conflicts": conflicts.count(folder),
        "left_out": sorted(shown(path) for path in node.subfolders.left_out_paths(folder)),
        "kept_files": state.kept,
        "mode": folder.engine.one_way.mode,
        "local_changes": state.local_changes,
        "not_applied": state.not_applied,
        "problems": [{"path": shown(p.path), "reason": p.reason, "time_ms": p.time_ms} for p in state.problems[:100]],
        "in_sync": state.status == "idle" and not behind,
    }


def device_view(node: Node, device: DeviceId) -> dict[str, Any]:
    """Return one other device of the account, and how far it is with the folders kept here."""
    session = node.sessions.get(device)
    folders = []
    for folder in node.folders.values():
        progress = session.progress.get(folder.entry.id) if session is not None else None
        if session is None or progress is None:
            continue
        done = session.holds_all(folder.entry.id) and progress.files == 0
        folders.append(
            {
                "name": folder.entry.name,
                "in_sync": done,
                "needed_files": progress.files or 0,
                "needed_bytes": progress.bytes,
            }
        )
    down, up = node.speeds.of(device)
    return {
        "id": peer_id_text(device),
        "name": node.sharing.access.name_of(device),
        "is_own": node.account.is_member(device),
        "connected": session is not None,
        "address": node.peering.remote.get(device, ""),
        "relayed": node.host.is_relayed(device),
        "known_addresses": node.known_addresses(device),
        "last_seen_ms": node.last_seen_ms(device),
        "received_per_s": round(down),
        "sent_per_s": round(up),
        "folders": folders,
    }


def folders(node: Node) -> list[dict[str, Any]]:
    """Return every folder of the account, with the path of those that are kept here."""
    return [
        {
            "name": entry.name,
            "id": entry.id.hex(),
            "path": shown(node.folders[entry.id].path) if entry.id in node.folders else None,
            "joined": entry.id in node.folders,
            "role": node.sharing.access.role(entry.id),
            "shared": node.account.is_shared(entry),
        }
        for entry in sorted(node.account.folders().values(), key=lambda entry: (entry.name, entry.time_ms))
    ]
