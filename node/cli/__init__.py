"""The command line: a thin client of the local API. It imports neither libp2p nor FastAPI."""
