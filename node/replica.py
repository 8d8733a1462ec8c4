"""One folder's metadata on this device: document, log, tree and dirty marks, changed together or not at all.

Every change, a person's or a peer's, is staged and then written as one synced batch; only after that do others hear of
it. All methods are synchronous and run on the trio thread, so nothing comes between.

Keys after the folder's 16 bytes: `log`, and `meta` under b"head": see `stored_logs`; `doc`: see `shard_store`; `index`:
see `tree_store` and `dirty`; `meta` under b"writer": this device's incarnation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import blake3

from shoal.crdt import log
from shoal.crdt.authoring import Author, Facts, Lamport
from shoal.crdt.document import Document, MalformedUpdate
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, Fact, FactId, FileContent, FolderId, NodeId, NodeView, Version
from shoal.crdt.newborn import taken_names
from shoal.crdt.tree import Tree
from shoal.node.changes import Committed, Create, Delete, DocChange, Edit, Move, Resolve
from shoal.node.dirty import DirtyNodes
from shoal.node.errors import UserError
from shoal.node.name_rules import NameRules
from shoal.node.shard_store import StoredShards
from shoal.node.shown_names import ShownNames
from shoal.node.store import Staging, Store
from shoal.node.stored_logs import SIZE, OverLogs, Refusal, StoredLogs
from shoal.node.tree_store import StoredIndex

FEW = 16  # small changes that come at once are what a person just did, and waits for elsewhere; no clock says that
SMALL = 1024 * 1024  # bytes
VIEWS = 5000  # kept, as each is asked for several times while its file is planned and placed


class Replica(OverLogs):
    """A folder's metadata. `changed` is called after a commit that left dirty nodes; `grown` after the log grew;
    `rolled_back` after a commit failed, with all that was staged; `told` with facts that are new here. `staging`: for
    what is to be committed along; `keys`: the folder's, replaced when it has a new epoch; `limit`: how much of a log
    is taken, None for all of it; `read_only`: this device may not write to the folder."""

    def __init__(
        self,
        store: Store,
        folder: FolderId,
        keys: FolderKeys,
        key: DeviceKey,
        is_known: Callable[[DeviceId], bool],
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.folder = folder
        self.keys = keys
        self.changed: Callable[[], None] = lambda: None
        self.grown: Callable[[], None] = lambda: None
        self.rolled_back: Callable[[], None] = lambda: None
        self.told: Callable[[Facts], None] = lambda facts: None
        self.read_only = False
        self.is_on_disk: Callable[[NodeId], bool] = lambda node: False
        self._key = key
        self._is_known = is_known
        self._entropy = entropy
        self._now_ms = now_ms
        self.staging = Staging(store)
        self._logs = StoredLogs(self.staging, folder)
        self._shards = StoredShards(self.staging, folder)
        self._index = StoredIndex(self.staging, folder)
        self.tree = Tree(self._index)
        self.dirty = DirtyNodes(self.staging, folder)
        self.conflicted: set[NodeId] = set()  # nodes with heads that differ
        self._lamport = Lamport()
        self._author = Author(key.id, self._lamport, entropy, now_ms)
        self.generation = 0  # it grows with each change of the tree
        self._views: dict[NodeId, NodeView | None] = {}  # as they are until the tree changes
        self._shown: ShownNames | None = None  # there where the disk cannot hold all names
        self._load()

    # -- what the engine asks --------------------------------------------------------------------------------------

    @property
    def device(self) -> DeviceId:
        """This device."""
        return self._key.id

    @property
    def content_key(self) -> bytes:
        """The key that chunk ids of this folder are made with."""
        return self.keys.content

    def view(self, node: NodeId) -> NodeView | None:
        """Return the node as all replicas show it, by the name that this device's disk can hold; or None."""
        try:
            return self._views[node]
        except KeyError:
            view = self._named(self.tree.view(node))
        if len(self._views) >= VIEWS:
            self._views.clear()
        self._views[node] = view
        return view

    def children(self, parent: NodeId) -> list[NodeView]:
        """Return the live children, conflict copies included."""
        views = self.tree.children(parent)
        return views if self._shown is None else [self._shown.view(view) for view in views]

    def copies(self, node: NodeId) -> list[NodeView]:
        """Return the conflict copies of a node, best first."""
        views = self.tree.copies(node)
        return views if self._shown is None else [self._shown.view(view) for view in views]

    def _named(self, view: NodeView | None) -> NodeView | None:
        return view if view is None or self._shown is None else self._shown.view(view)

    def is_waiting(self, node: NodeId) -> bool:
        """Return whether the node lives, and only its place is not known yet."""
        record = self._index.get(node)
        return record is not None and record.live and self.tree.view(node) is None

    def child_named(self, parent: NodeId, name: str) -> NodeView | None:
        """Return the live child that is shown under `name`, conflict copies included."""
        among = self._index.named(parent, name) if self._shown is None else self._shown.named(parent, name)
        for node in among:
            view = self.view(node)
            if view is not None and view.name == name:
                return view
        if "(conflict " in name:
            return next((view for view in self.children(parent) if view.name == name), None)
        return None

    def heads(self, node: NodeId) -> tuple[Version, ...]:
        """Return the node's versions that nothing replaces, deletions and such as are alike included."""
        record = self._index.get(node)
        return record.heads if record is not None else ()

    def version(self, node: NodeId, version: FactId) -> Version | None:
        """Return a version of a node, replaced ones included, as long as the document knows it; of a deletion, which
        names places, too, what it replaces is the versions alone."""
        found = self._document.fact(node, version)
        if not isinstance(found, Version):
            return None
        if found.content is None:
            versions = tuple(f for f in found.replaces if isinstance(self._document.fact(node, f), Version))
            found = replace(found, replaces=versions or found.replaces)
        return found

    def taken_names(self, parent: NodeId, names: Sequence[str]) -> set[str]:
        """Return names that nodes in a folder have or had: at least those of `names` that are no new ones there."""
        return taken_names(self._index, parent, names)

    def commit(
        self, changes: Sequence[DocChange], record: Callable[[list[Committed]], None] = lambda results: None
    ) -> list[Committed]:
        """Make changes of the document, durable when this returns; one result a change, in order. What `record` stages
        of them in `staging` is in the same batch. Raises UserError where this device may not write."""
        if changes and self.read_only:
            raise UserError("read-only", "you may read this folder, and not change it", "ask one of its owners")
        facts: Facts = []
        results: list[Committed] = []
        for change in changes:
            node, made = self._facts_for(change, results)
            facts += made
            if isinstance(change, Create):
                results.append(Committed(node, made[0][1].id))
                continue
            # The edit of a conflict copy is a version of the copy's owner.
            own = [f.id for n, f in made if isinstance(f, Version) and (n == node or isinstance(change, Edit))]
            version = own[-1] if own else None
            results.append(Committed(node, version))
        if facts:
            with self._atomic(own=True):
                self._append(self._document.add(facts))
                # A settled node's copies are still on disk: the engine has to look at it.
                settled = {change.node for change in changes if isinstance(change, Resolve)}
                self._take(facts, {each.node: each.version for each in results if each.node not in settled})
                record(results)
            self.grown()
        else:
            record(results)
            self._write_staged()
        return results

    def commit_wanted(self, changes: Sequence[DocChange]) -> list[Committed]:
        """Make changes of the document that the disk has yet to follow, as it follows a peer's."""

        def mark(results: list[Committed]) -> None:
            for result in results:
                self.dirty.mark(result.node, self.size_of(result.node))

        done = self.commit(changes, mark)
        self.changed()
        return done

    def facts_of(self, node: NodeId) -> list[Fact]:
        """Return all that was ever said of a node, in any order."""
        return self._document.facts_of(node)

    def facts_by_node(self, shard: int) -> dict[NodeId, list[Fact]]:
        """Return all that was ever said of the nodes of one shard of the document."""
        return self._document.by_node(shard)

    def mark_dirty(self, nodes: Sequence[NodeId]) -> None:
        """Have the engine look at these nodes again."""
        for node in nodes:
            self.dirty.mark(node, 0)
        if nodes:
            self._write_staged()
            self.changed()

    def stage_dirty(self, node: NodeId) -> None:
        """Stage that the engine looks at a node again; its size counts as needed."""
        self.dirty.mark(node, self.size_of(node))

    def clean(self, nodes: Iterable[NodeId]) -> None:
        """The engine has seen to these nodes. Not synced: at worst a restart looks at them once more."""
        for node in nodes:
            self.dirty.clean(node)
        self._write_staged()

    # -- what a session with a peer asks ---------------------------------------------------------------------------

    def receive_entries(self, entries: Sequence[bytes]) -> Refusal | None:
        """Apply entries that a peer sent, in their order, up to the first that is refused; return why it was."""
        refusal: Refusal | None = None
        grown = False
        news: set[NodeId] = set()
        with self._atomic():
            for encoded in entries:
                try:
                    entry = log.decode_entry(encoded)
                    if entry.seq < self.frontier.get(entry.log, LogHead()).length:
                        continue
                    self._logs.check(entry, self._is_known)
                    updates = log.open_body(entry, self.keys, self._earlier(entry.log))
                    facts = self._document.apply(updates, _client(entry.log))
                except log.EntryRefused as error:
                    refusal = Refusal(str(error), misbehaved=error.blames_sender)
                    break
                except MalformedUpdate as error:
                    refusal = Refusal(str(error), misbehaved=True)
                    break
                self._logs.put(entry.log, encoded, LogHead(entry.seq + 1, entry.hash))
                news |= self._take(facts, {})
                grown = True
        if grown:
            if len(news) <= FEW and all(self.size_of(node) <= SMALL for node in news):
                self.dirty.hurry(news)
            self.grown()
            self.changed()
        return refusal

    def keep_to_limits(self) -> bool:
        """Forget what is held of logs beyond what is taken of them; return whether there was any. What it said is said
        again by this device, if it may: it came in good faith."""
        beyond = self._logs.beyond_limits()
        if not beyond:
            return False
        known = list(self._document.facts())
        with self._atomic():
            for log_id, limit in beyond.items():
                self._logs.cut(log_id, limit)
            self._shards.clear()
            if self.log_id in beyond:
                self._begin_incarnation()
            self._document.forget()
            kept = list(self._replay())
            kept_ids = {fact.id for _, fact in kept}
            lost = [(node, fact) for node, fact in known if fact.id not in kept_ids]
            if not self.read_only:
                self._append(self._document.add(lost))
            elif lost:
                self._plant(kept, {node for node, _ in lost})
        self.grown()
        self.changed()
        return True

    def _plant(self, facts: Facts, gone: Iterable[NodeId]) -> None:
        """Make the tree anew, of these facts alone; `gone`: nodes of which some are no more."""
        self._index.erase()
        self._take(facts, {})
        for node in gone:
            self.dirty.mark(node, self.size_of(node))

    def begin_anew(self) -> None:
        """Write a log of its own from here on: this store is a copy, and its log may have gone on elsewhere."""
        with self._atomic():
            self._begin_incarnation()

    def on_own_log_diverged(self, log_id: LogId) -> bool:
        """A peer holds of the log we write what we do not: our store is an old copy, perhaps with changes of its own.

        That log is never written again: it is forgotten here, to be had from peers as they have it; a document is built
        without it, since its pycrdt client has two histories; and what only our copy of it said is said again in a new
        incarnation. The tree stays: it follows from the facts, and they all remain. Return whether this was done:
        conversations with peers have to begin anew then.
        """
        if log_id != self.log_id:
            return False
        known = list(self._document.facts())
        with self._atomic():
            self._logs.cut(log_id, LogHead())
            self._shards.clear()
            self._begin_incarnation()
            kept = {fact.id for _, fact in self._replay()}
            lost = [(node, fact) for node, fact in known if fact.id not in kept]
            self._append(self._document.add(lost))
        self.grown()
        return True

    def read_held(self) -> None:
        """Read logs that were held here without being read; of one that cannot be read on, what comes after is
        forgotten, and had anew."""
        with self._atomic():
            self._document.forget()
            facts: list[tuple[NodeId, Fact]] = []
            for log_id, head in list(self.frontier.items()):
                before = LogHead()
                for seq in range(head.length):
                    try:
                        entry = log.decode_entry(self._logs.entry(log_id, seq) or b"")
                        updates = log.open_body(entry, self.keys, self._earlier(log_id))
                        facts += self._document.apply(updates, _client(log_id))
                    except (log.EntryRefused, MalformedUpdate):
                        self._logs.cut(log_id, before)
                        break
                    before = LogHead(seq + 1, entry.hash)
            self._take(facts, {})
            self.staging.delete("meta", self.folder + SIZE)
        self.grown()
        self.changed()

    def _replay(self) -> Iterator[tuple[NodeId, Fact]]:
        """Fill an empty document from the logs; yield its facts."""
        for log_id, head in self.frontier.items():
            for seq in range(head.length):
                encoded = self._logs.entry(log_id, seq)
                assert encoded is not None
                updates = log.open_body(log.decode_entry(encoded), self.keys, self._earlier(log_id))
                yield from self._document.apply(updates)

    def erase(self) -> None:
        """Remove everything about the folder from the store; the folder's files are not touched."""
        for column in ("log", "doc", "index", "meta"):
            prefix = self.folder
            for key, _ in list(self.staging.scan(column, prefix)):
                self.staging.delete(column, key)
        self.staging.commit()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self._logs.load()
        lamport = self.staging.get("meta", self.folder + b"lamport")
        self._lamport.value = max(self._lamport.value, int.from_bytes(lamport or b""))
        self.conflicted.clear()
        for node in self._index.owners():
            self._note_conflict(node)
        incarnation = self.staging.get("meta", self.folder + b"writer")
        if incarnation is None:
            self._begin_incarnation()
            self.staging.put("meta", self.folder + b"replaced", b"")
            self.staging.commit()
        else:
            self._take_incarnation(incarnation)
            if self.staging.get("meta", self.folder + b"replaced") is None:
                self._note_replaced()

    def _note_replaced(self) -> None:
        """Older versions of Shoal did not keep which versions stand no more."""
        for node, fact in self._document.facts():
            record = self._index.get(node) if isinstance(fact, Version) else None
            if record is not None and all(head.id != fact.id for head in record.heads):
                self._index.set_replaced(node, fact.id)
        self.staging.put("meta", self.folder + b"replaced", b"")
        self.staging.commit()

    def _begin_incarnation(self) -> None:
        incarnation = self._entropy(16)
        self.staging.put("meta", self.folder + b"writer", incarnation)
        self._take_incarnation(incarnation)

    def _take_incarnation(self, incarnation: bytes) -> None:
        self.log_id = LogId(self._key.id, incarnation)
        self._document = Document(_client(self.log_id), self._shards)

    def _append(self, updates: dict[int, bytes]) -> None:
        head = self.frontier.get(self.log_id, LogHead())
        for encoded, after in log.write_entries(self._key, self.keys, self.folder, self.log_id, head, updates):
            self._logs.put(self.log_id, encoded, after)

    def _earlier(self, log_id: LogId) -> Callable[[int], bytes | None]:
        return lambda seq: self._logs.entry(log_id, seq)

    def _take(self, facts: Facts, known: dict[NodeId, bytes | None]) -> set[NodeId]:
        """Apply facts to the tree and mark what the engine must look at: not what it did itself and stands so. Return
        the nodes that changed."""
        self._lamport.observe(max((fact.lamport for _, fact in facts), default=0))
        self.staging.put("meta", self.folder + b"lamport", self._lamport.value.to_bytes(8))
        self._views.clear()
        self.generation += 1
        born, changed = self.tree.take(facts)
        self.told(facts)
        for node, version in born.items():
            if known.get(node) != version:
                self.dirty.mark(node, self.size_of(node))
        for node in changed:
            self._note_conflict(node)
            if node in known and self.tree.stands_alone(node, known[node]):
                continue
            self.dirty.mark(node, self.size_of(node))
        for node in self._shown.settle({*born, *changed}) if self._shown is not None else ():
            self.dirty.mark(node, self.size_of(node))
        return {*born, *changed}

    def hold_names(self, rules: NameRules) -> None:
        """Show names from now on as a disk of this kind can hold them."""
        shown = ShownNames(self.staging, self.folder, self._index)
        shown.hold(rules)
        self._shown = None if rules.plain else shown
        self._views.clear()
        self.staging.commit()

    def own_name(self, shown: str, node: NodeId | None) -> str:
        """Return the name that a person means who gave a file, of this device's disk, this one: a name that it has for
        the disk's sake alone is none."""
        if self._shown is None:
            return shown
        own = self._shown.own_name(shown, node) if node is not None else None
        return self._shown.rules.told(shown) if own is None else own

    def may_show(self, name: str, shown: str, node: NodeId) -> bool:
        """Return whether `shown` is what this device's disk has a node of that name by."""
        return name == shown if self._shown is None else self._shown.may_show(name, shown, node)

    def _note_conflict(self, node: NodeId) -> None:
        if self.tree.has_conflict(node):
            self.conflicted.add(node)
        else:
            self.conflicted.discard(node)

    def size_of(self, node: NodeId) -> int:
        """Return the bytes of a node's content, 0 where it has none."""
        record = self._index.get(node)
        heads = record.heads if record is not None else ()
        return max((head.content.size for head in heads if isinstance(head.content, FileContent)), default=0)

    def _facts_for(self, change: DocChange, before: Sequence[Committed]) -> tuple[NodeId, Facts]:
        match change:
            case Create(parent, name, kind, content):
                return self._author.create(self.tree, _resolved(parent, before), name, kind, content, self.is_on_disk)
            case Edit(node, content, base, apart):
                return node, self._author.edit(self.tree, node, content, base, apart)
            case Move(node, parent, name):
                return self._author.move(self.tree, node, _resolved(parent, before), name)
            case Delete(node, base, seen, apart):
                return node, self._author.delete(self.tree, node, base, seen, apart)
            case Resolve(node, replaces, content, chosen):
                return node, self._author.resolve(self.tree, node, replaces, content, chosen=chosen)

    def _atomic(self, *, own: bool = False) -> _Atomic:
        return _Atomic(self, own)

    def _commit(self, *, own: bool) -> None:
        self._index.flush(asked_for_soon=not own)  # what others changed is planned next
        self.staging.commit()

    def _write_staged(self) -> None:
        """Write what is staged, without waiting for the disk. Raises StoreFull; all is as it was before then."""
        try:
            self.staging.commit(sync=False)
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """Forget what is staged, and what memory says beyond the store."""
        self.staging.discard()
        self._index.forget()
        self._views.clear()
        self.generation += 1
        if self._shown is not None:
            self._shown.forget()
        self._document.forget()
        self.dirty.load()
        self._load()
        self.rolled_back()


class _Atomic:
    """Commits the replica's staged changes at the end of the block; after an error all is as it was before."""

    def __init__(self, replica: Replica, own: bool) -> None:
        self._replica = replica
        self._own = own

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._replica.roll_back()
            return
        try:
            self._replica._commit(own=self._own)
        except BaseException:
            self._replica.roll_back()
            raise


def _client(log_id: LogId) -> int:
    """Return the Yjs client id that is bound to a log."""
    return int.from_bytes(blake3.blake3(b"shoal client" + log_id.key()).digest(6))


def _resolved(parent: NodeId | int, before: Sequence[Committed]) -> NodeId:
    return before[parent].node if isinstance(parent, int) else parent
