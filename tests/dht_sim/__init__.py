"""A simulator of the DHT: thousands of peers that come and go, on the product's own state machines (routing table,
upkeep, look-ups, sweep, provider records), with time, network and churn made up from one seed.

It is no test of the driver or of the wire: those are tested over real streams. What it answers is how the DHT does in
numbers that nobody can start processes for. `python -m tests.dht_sim --help`.
"""
