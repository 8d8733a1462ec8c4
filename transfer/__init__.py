"""Bytes: chunking, the exchange protocol, scheduling of fetches, over streams and stores that it is given."""
