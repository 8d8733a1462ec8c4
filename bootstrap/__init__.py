"""Getting onto the network: the one module that touches libp2p, address book, discovery, pairing."""
