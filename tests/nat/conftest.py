"""Internets of network namespaces for the tests here."""

from netns import internet

__all__ = ["internet"]
