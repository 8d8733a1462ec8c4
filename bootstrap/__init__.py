"""Getting onto the network: the one module that touches libp2p, address book, discovery, pairing."""

from shoal.bootstrap.fastecdsa_absent import allow_absence

allow_absence()  # before any module of this package imports libp2p
