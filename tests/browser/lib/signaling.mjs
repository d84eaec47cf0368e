// A client of the signaling protocol in a few lines, for peers that are no browsers.

import WebSocket from 'ws';

export class Signaling {
  #socket;
  #nextId = 1;
  #replies = new Map();
  #events = [];
  #waiting = new Set();

  /** Signs in as a guest. */
  static async signIn(url, name) {
    const client = new Signaling();
    const address = new URL('ws', url.replace(/^http/, 'ws'));
    client.#socket = new WebSocket(address, 'halloo.v1');
    await new Promise((resolve, reject) => {
      client.#socket.once('open', resolve);
      client.#socket.once('error', reject);
    });
    client.#socket.on('message', (data) => client.#receive(JSON.parse(String(data))));
    client.welcome = await client.request({
      type: 'hello',
      credential: { type: 'guest', name },
      device: `test-${name}`,
      client: { name: 'halloo-tests', version: '0' },
    });
    return client;
  }

  request(request) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#replies.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ id, request }));
    });
  }

  /** The next event of this type that nobody took yet. */
  event(type, timeoutMs = 20_000) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const index = this.#events.findIndex((event) => event.type === type);
        if (index < 0) return;
        this.#waiting.delete(look);
        clearTimeout(timer);
        resolve(this.#events.splice(index, 1)[0]);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`no ${type} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiting.add(look);
      look();
    });
  }

  /** Calls `take` with every event of this type, past and to come. */
  on(type, take) {
    const look = () => {
      for (let i = 0; i < this.#events.length; ) {
        if (this.#events[i].type === type) take(this.#events.splice(i, 1)[0]);
        else i += 1;
      }
    };
    this.#waiting.add(look);
    look();
  }

  close() {
    this.#socket.close();
  }

  #receive(message) {
    if ('reply_to' in message) {
      const waiting = this.#replies.get(message.reply_to);
      this.#replies.delete(message.reply_to);
      if (message.error) waiting?.reject(new Error(`${message.error.code}: ${message.error.message}`));
      else waiting?.resolve(message.result);
      return;
    }
    this.#events.push(message.event);
    for (const look of [...this.#waiting]) look();
  }
}
