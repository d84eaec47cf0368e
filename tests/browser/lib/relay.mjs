// An impaired network in user space: a UDP port that stands for a server's, through which clients reach it.
//
// A participant takes this way when its page puts this port in the place of the answer's candidates (`via` in room.mjs).
// Each client's address gets a socket of its own towards the server, which so sees one address a client. Both directions
// (`up` to the server, `down` from it) are a link with loss, a rate with a bounded queue, a delay and jitter. Packets of a
// direction keep their order.

import { createSocket } from 'node:dgram';
import { atEnd } from './cleanup.mjs';
import { random } from './random.mjs';

/** What IP and UDP add to a packet's payload: a link carries that too. */
const HEADERS = 28;
const PERFECT = { loss: 0, kbps: Infinity, queueMs: 300, delayMs: 0, jitterMs: 0 };

/** Opens a relay to the server's media port. `up` and `down`: `loss` (0 to 1), `kbps`, `queueMs`, `delayMs`, `jitterMs`. */
export async function relay(test, { to, up = {}, down = {}, seed = 1 }) {
  const front = await open(0);
  const links = { up: new Link(up, random(seed)), down: new Link(down, random(seed + 1)) };
  const backs = new Map();
  front.on('message', async (data, { address, port }) => {
    const client = `${address}:${port}`;
    if (!backs.has(client)) backs.set(client, connect(address, port));
    const back = await backs.get(client);
    links.up.pass(data, () => back.send(data, to.port, to.address));
  });
  async function connect(address, port) {
    const back = await open(0);
    back.on('message', (data) => links.down.pass(data, () => front.send(data, port, address)));
    return back;
  }
  atEnd(test, async () => {
    for (const link of Object.values(links)) link.close();
    for (const back of backs.values()) (await back).close();
    front.close();
  });
  return {
    port: front.address().port,
    up: links.up,
    down: links.down,
  };
}

/** The server's media address, by its answer. */
export function mediaAddress(sdp) {
  const found = /^a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host/im.exec(sdp);
  if (found === null) throw new Error(`no address in\n${sdp}`);
  return { address: found[1], port: Number(found[2]) };
}

/** One direction. */
class Link {
  #limits;
  #random;
  #timers = new Set();
  /** When the queue will have been sent, and when the last packet arrives. */
  #idleAt = 0;
  #lastDue = 0;
  #seconds = new Map();
  /** Packets that came, were lost, and found the queue full; bytes that came, with their headers. */
  counts = { packets: 0, lost: 0, dropped: 0, bytes: 0 };

  constructor(limits, random) {
    this.#limits = { ...PERFECT, ...limits };
    this.#random = random;
  }

  /** Changes the impairment from now on. */
  set(limits) {
    this.#limits = { ...this.#limits, ...limits };
  }

  pass(data, send) {
    const { loss, kbps, queueMs, delayMs, jitterMs } = this.#limits;
    const now = performance.now();
    const bytes = data.length + HEADERS;
    this.counts.packets += 1;
    this.counts.bytes += bytes;
    const second = Math.floor(now / 1_000);
    this.#seconds.set(second, (this.#seconds.get(second) ?? 0) + bytes);
    if (this.#random() < loss) {
      this.counts.lost += 1;
      return;
    }
    const starts = Math.max(now, this.#idleAt);
    if (starts - now > queueMs) {
      this.counts.dropped += 1;
      return;
    }
    this.#idleAt = starts + (Number.isFinite(kbps) ? (bytes * 8) / kbps : 0);
    this.#lastDue = Math.max(this.#lastDue, this.#idleAt + delayMs + jitterMs * this.#random());
    if (this.#lastDue - now < 0.5) {
      send();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      send();
    }, this.#lastDue - now);
    this.#timers.add(timer);
  }

  /** What came between two moments of `performance.now()`, as kbit/s of each full second. */
  rates(from, to) {
    const rates = [];
    for (let second = Math.ceil(from / 1_000); second < Math.floor(to / 1_000); second++) {
      rates.push(((this.#seconds.get(second) ?? 0) * 8) / 1_000);
    }
    return rates;
  }

  close() {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

async function open(port) {
  const socket = createSocket('udp4');
  await new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, '127.0.0.1', resolve);
  });
  socket.setRecvBufferSize(1 << 20);
  // A client that has gone away is no reason to stop.
  socket.on('error', () => {});
  return socket;
}
