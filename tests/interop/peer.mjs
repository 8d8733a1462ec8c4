// A js-libp2p peer, driven by one JSON object a line on standard input; it answers each with one on standard output.
// Options: --server, to answer others' questions.
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const RAW = 0x55
const server = process.argv.includes('--server')
const peer = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({ protocol: '/shoal/kad/1.0.0', clientMode: !server, peerInfoMapper: passthroughMapper })
  }
})

const cidOf = (hex) => CID.createV1(RAW, Digest.decode(Buffer.from(hex, 'hex')))
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n')

const commands = {
  async connect ({ address }) {
    await peer.dial(multiaddr(address), { signal: AbortSignal.timeout(10_000) })
    return {}
  },
  async ping ({ address }) {
    return { ms: await peer.services.ping.ping(multiaddr(address), { signal: AbortSignal.timeout(10_000) }) }
  },
  async peers () {
    return { connected: peer.getPeers().map(String), table: peer.services.dht.routingTable.size }
  },
  async provide ({ key }) {
    await peer.contentRouting.provide(cidOf(key), { signal: AbortSignal.timeout(20_000) })
    return {}
  },
  async find ({ key }) {
    const providers = []
    for await (const found of peer.contentRouting.findProviders(cidOf(key), { signal: AbortSignal.timeout(20_000) })) {
      providers.push({ peer: String(found.id), addresses: found.multiaddrs.map(String) })
      break
    }
    return { providers }
  },
  async stop () {
    await peer.stop()
    return {}
  }
}

say({ ready: true, peer: String(peer.peerId), addresses: peer.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...options } = JSON.parse(line)
  try {
    say({ id, ...await commands[command](options) })
  } catch (error) {
    say({ id, error: String(error?.message ?? error) })
  }
  if (command === 'stop') break
}
process.exit(0)
