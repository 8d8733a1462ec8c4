"""Folder metadata: the tree document, versions, the signed log, the roster. Pure: no I/O, no trio, no clock."""
