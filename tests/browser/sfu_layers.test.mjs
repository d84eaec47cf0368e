// Layers that nobody receives, by the protocol alone: a publisher stops sending them, and sends them again in time.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { gather, joinCrowd } from './lib/crowd.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const ROOM = 'standup';
const FULL = 360;

test('a top layer that nobody shows is not sent after 2 s, and is shown 1 s after it is wanted', options, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const publisher = await launch(t, { folder, name: 'publisher', devices: false });
  const viewers = await launch(t, { folder, name: 'viewers', devices: false });
  for (const { page } of [publisher, viewers]) await page.goto(server.url);
  await gather(publisher.page, { size: [640, FULL] });
  await gather(viewers.page);
  const encodings = [{ scalabilityMode: 'L3T3_KEY', maxBitrate: 1_500_000 }];
  const { you } = await joinCrowd(publisher.page, { name: 'alice', room: ROOM, encodings });
  for (const name of ['bob', 'carol']) await joinCrowd(viewers.page, { name, room: ROOM });

  await wish(viewers.page, 'bob', you, FULL);
  await wish(viewers.page, 'carol', you, 90);
  await reaches(viewers.page, 'bob', you, FULL);
  const stops = [];
  const starts = [];
  for (let round = 0; round < 3; round++) {
    await sends(publisher.page, FULL);
    // Nobody shows it large any more: what the publisher sends is what counts.
    let asked = await wish(viewers.page, 'bob', you, 90);
    stops.push((await sendsBelow(publisher.page, FULL)) - asked);
    await viewers.page.waitForTimeout(1_000);
    // Somebody does again: until the picture is there.
    asked = await wish(viewers.page, 'bob', you, FULL);
    starts.push((await reaches(viewers.page, 'bob', you, FULL)) - asked);
    await viewers.page.waitForTimeout(1_000);
  }
  // Nobody shows it at all.
  const asked = await nothing(viewers.page);
  const silent = (await sendsBelow(publisher.page, 0)) - asked;
  const back = await wish(viewers.page, 'bob', you, FULL);
  const shown = (await reaches(viewers.page, 'bob', you, FULL)) - back;
  t.diagnostic(JSON.stringify({ stops, starts, silent, shown }));
  for (const ms of [...stops, silent]) assert.ok(ms <= 2_000, `the publisher stopped after ${ms} ms`);
  for (const ms of [...starts, shown]) assert.ok(ms <= 1_000, `the picture was there after ${ms} ms`);
  assert.deepEqual([...publisher.problems, ...viewers.problems], []);
});

/** Somebody shows this participant's camera in a tile of this height. Gives the time at which they said so. */
function wish(page, name, participant, height) {
  return page.evaluate(
    async ({ name, participant, height }) => {
      const me = window.crowd.get(name);
      // Pictures from before say nothing of what comes of this.
      me.decoded = new Map();
      for (const stat of (await me.pc.getStats()).values()) {
        if (stat.type === 'inbound-rtp' && stat.kind === 'video') me.decoded.set(stat.mid, stat.framesDecoded);
      }
      const show = [{ source: { participant, kind: 'camera' }, size: { width: (height * 16) / 9, height }, pinned: true }];
      const at = Date.now();
      void me.request({ type: 'subscribe', room: me.room, show });
      return at;
    },
    { name, participant, height },
  );
}

function nothing(page) {
  return page.evaluate(() => {
    const at = Date.now();
    for (const me of window.crowd.values()) void me.request({ type: 'subscribe', room: me.room, show: [] });
    return at;
  });
}

/** When the encoder's pictures first have this height. */
function sends(page, height) {
  return sending(page, ['is', height]);
}

/** When they are first lower than this, or are not sent at all where it is 0. */
function sendsBelow(page, height) {
  return sending(page, height === 0 ? ['off'] : ['below', height]);
}

function sending(page, what) {
  return page.evaluate(async ([relation, height]) => {
    for (;;) {
      const stats = [...(await window.crowd.get('alice').pc.getStats()).values()];
      const sent = stats.find((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video' && stat.frameHeight > 0);
      const holds = {
        is: sent?.active && sent.frameHeight === height,
        below: sent?.frameHeight < height,
        off: sent?.active === false,
      };
      if (holds[relation]) return Date.now();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }, what);
}

/** When a picture of theirs of this height was first decoded. */
function reaches(page, name, participant, height) {
  return page.evaluate(
    async ({ name, participant, height }) => {
      const me = window.crowd.get(name);
      const shows = (source) => source?.participant === participant && source.kind === 'camera';
      for (;;) {
        const mid = [...me.slots].find(([, source]) => shows(source))?.[0];
        const stats = [...(await me.pc.getStats()).values()];
        const seen = stats.find((stat) => stat.type === 'inbound-rtp' && stat.kind === 'video' && stat.mid === mid);
        const fresh = seen?.framesDecoded > (me.decoded.get(mid) ?? 0);
        if (fresh && seen.frameHeight === height) return Date.now();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    { name, participant, height },
  );
}
