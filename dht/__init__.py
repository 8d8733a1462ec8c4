"""Kademlia provider discovery (pure state machines under a thin driver). Nothing lives here yet: peers are found by
mDNS and known addresses; the package holds its place in the layering that import-linter checks."""
