"""The desktop node: store, folder engine, account, local API, CLI, and the composition of all the parts."""
