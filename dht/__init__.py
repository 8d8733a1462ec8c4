"""Kademlia: pure state machines (keyspace, routing table, look-ups), and the messages of `/shoal/kad/1.0.0`. Nothing
uses them yet: peers are found by mDNS and known addresses."""
