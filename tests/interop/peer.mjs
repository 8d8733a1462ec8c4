// A js-libp2p peer, driven by JSON: one object a line comes in, {"id", "command", ...}, and for each one goes out with
// the same id: what came of it, or {"id", "error"}. Commands run side by side, and each ends in time ("timeout": ms).
//
//   connect {address} -> {peer}            ping {address} -> {ms}
//   peers -> {connected, table}            known {peer} -> {addresses, protocols}
//   provide {key} -> {told, failed}        findProviders {key, enough} -> {providers: [{peer, addresses}]}
//   findPeer {peer} -> {peer, addresses}   getClosestPeers {key} -> {peers: [{peer, addresses}]}
//   stop -> {}                             find {key}: findProviders, of one
//
// A key is a multihash in hex, or a CID, of which the DHT takes the multihash; that of getClosestPeers is any bytes, in
// hex. Options: --server, to answer others' questions; --listen MULTIADDR. The end of the input ends the peer, too.
import { setMaxListeners } from 'node:events'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const RAW = 0x55
const WITHIN = 20_000 // ms
const GRACE = 2_000 // ms, for what does not heed its signal

const { values: { server, listen } } = parseArgs({
  options: {
    server: { type: 'boolean', default: false },
    listen: { type: 'string', default: '/ip4/127.0.0.1/tcp/0' }
  }
})
const peer = await createLibp2p({
  addresses: { listen: [listen] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    // the DHT pings each new peer, too: with the one stream that is the default, ours would fail beside it
    ping: ping({ maxOutboundStreams: 16 }),
    // by default peers with private addresses only are left out
    dht: kadDHT({ protocol: '/shoal/kad/1.0.0', clientMode: !server, peerInfoMapper: passthroughMapper })
  }
})

const say = (what) => process.stdout.write(JSON.stringify(what) + '\n')
const shown = ({ id, multiaddrs }) => ({ peer: String(id), addresses: [...new Set(multiaddrs.map(String))] })
const isHex = (text) => /^([0-9a-f]{2})+$/i.test(text)
const cidOf = (key) => isHex(key) ? CID.createV1(RAW, Digest.decode(Buffer.from(key, 'hex'))) : CID.parse(key)

// Return what a query yields, at most so many; where the time is up, what there is, unless that is nothing.
async function take (query, signal, most = Infinity) {
  const found = []
  try {
    for await (const each of query) {
      if (found.push(shown(each)) >= most) break
    }
  } catch (error) {
    if (!signal.aborted || found.length === 0) throw error
  }
  return found
}

async function * closest (key, signal) {
  for await (const event of peer.services.dht.getClosestPeers(key, { signal })) {
    if (event.name === 'FINAL_PEER') yield peer.peerStore.getInfo(event.peer.id, { signal })
  }
}

const commands = {
  async connect ({ address }, signal) {
    return { peer: String((await peer.dial(multiaddr(address), { signal })).remotePeer) }
  },
  async ping ({ address }, signal) {
    return { ms: await peer.services.ping.ping(multiaddr(address), { signal }) }
  },
  async peers () {
    return { connected: peer.getPeers().map(String), table: peer.services.dht.routingTable.size }
  },
  async known ({ peer: id }, signal) {
    const { addresses, protocols } = await peer.peerStore.get(peerIdFromString(id), { signal })
    return { addresses: addresses.map((each) => String(each.multiaddr)), protocols }
  },
  async provide ({ key }, signal) {
    const result = { told: 0, failed: 0 } // peers; that of a query that failed is no error to js-libp2p
    for await (const event of peer.services.dht.provide(cidOf(key), { signal })) {
      if (event.name === 'QUERY_ERROR') result.failed++
      if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') result.told++
    }
    return result
  },
  async find ({ key }, signal) {
    return commands.findProviders({ key, enough: 1 }, signal)
  },
  async findProviders ({ key, enough }, signal) {
    return { providers: await take(peer.contentRouting.findProviders(cidOf(key), { signal }), signal, enough) }
  },
  async findPeer ({ peer: id }, signal) {
    return shown(await peer.peerRouting.findPeer(peerIdFromString(id), { signal }))
  },
  async getClosestPeers ({ key }, signal) { // not peerRouting's: that drops whom no other peer tells the addresses of
    return { peers: await take(closest(Buffer.from(key, 'hex'), signal), signal) }
  },
  async stop () {
    await peer.stop()
    return {}
  }
}

async function run (line) {
  let id = null
  let command, ends
  try {
    const { id: number, command: name, timeout = WITHIN, ...options } = JSON.parse(line)
    id = number ?? null
    command = name
    if (!Object.hasOwn(commands, command)) throw new Error(`no command ${command}`)
    const signal = AbortSignal.timeout(timeout)
    setMaxListeners(Infinity, signal)
    const late = new Promise((resolve, reject) => {
      ends = setTimeout(() => reject(new Error('it did not end in time')), timeout + GRACE)
    })
    say({ id, ...await Promise.race([commands[command](options, signal), late]) })
  } catch (error) {
    say({ id, error: String(error?.message || error) })
  } finally {
    clearTimeout(ends)
    if (command === 'stop') process.exit(0)
  }
}

say({ event: 'ready', ready: true, peer: String(peer.peerId), addresses: peer.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim()) run(line)
}
process.exit(0)
