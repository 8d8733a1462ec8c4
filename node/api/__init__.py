"""The local HTTP API: what the CLI, and later the page, ask of the daemon."""
