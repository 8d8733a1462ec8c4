"""The folder engine: keeps a real directory equal to a folder's tree, both ways.

Three trees, all by node id: `remote` is what the document says (`Replica.view`), `synced` what disk and document last
agreed on (`LocalIndex`), `local` what the disk says now (looked at when needed, never trusted from memory). A person's
changes become document changes first; the document decides; then the disk follows. Whatever a crash interrupts is seen
again by the next scan, and recognised as done where it was done.
"""
