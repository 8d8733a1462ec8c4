"""Sealed replicas: making, placing, holding, proving and reading packs of a folder's chunks."""
