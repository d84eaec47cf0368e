// A room of nine in which one has little bandwidth, by the protocol alone: that one keeps what matters, and costs nobody else
// anything.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { figures, gather, joinCrowd, show, speak } from './lib/crowd.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';
import { mediaAddress, relay } from './lib/relay.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 180_000 };
const ROOM = 'standup';
const KBPS = 300;
/** Those on each of two pages; the last one sits behind the narrow way. */
const PAGES = [['p1', 'p2', 'p3', 'p4'], ['p5', 'p6', 'p7', 'p8', 'narrow']];
const SPEAKERS = ['p1', 'p2', 'p5'];
/** Whom the narrow one pins. */
const PINNED = 'p3';
/** Whose concealment is that of this machine. */
const CONTROL = 'p8';
const SETTLE_MS = 8_000;
const PHASE_MS = 20_000;

test('one of nine has 300 kbit/s: smooth sound, the pinned picture, and nobody else notices', options, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const pages = [];
  for (const [index] of PAGES.entries()) {
    const { page, problems } = await launch(t, { folder, name: `crowd-${index}`, devices: false });
    await page.goto(server.url);
    await gather(page, { size: [320, 180], fps: 30 });
    pages.push({ page, problems });
  }
  // The pinned one has a camera's usual rate; the others take less of this machine.
  const encodings = (name) => [{ scalabilityMode: 'L3T3_KEY', maxBitrate: 350_000, maxFramerate: name === PINNED ? 30 : 15 }];
  const numbers = new Map();
  let way = null;
  for (const [index, names] of PAGES.entries()) {
    for (const name of names) {
      const via = name === 'narrow' ? way.port : null;
      const { you, answer } = await joinCrowd(pages[index].page, {
        name,
        room: ROOM,
        encodings: encodings(name),
        via,
        listens: [CONTROL, 'narrow'].includes(name),
      });
      numbers.set(name, you);
      way ??= await relay(t, { to: mediaAddress(answer), down: { delayMs: 10 }, seed: 9 });
    }
  }
  const of = (name) => pages[PAGES.findIndex((names) => names.includes(name))].page;
  for (const name of SPEAKERS) await speak(of(name), name, true);
  const names = [...numbers.keys()];
  for (const [index, name] of names.entries()) {
    // One large and some small; who has little bandwidth would like to see all.
    const others = names.filter((each) => each !== name);
    const shown = name === 'narrow' ? others : [1, 2, 4].map((by) => others[(index + by) % others.length]);
    const pinned = name === 'narrow' ? PINNED : shown[0];
    const wish = shown.map((each) => ({
      source: { participant: numbers.get(each), kind: 'camera' },
      size: each === pinned ? { width: 320, height: 180 } : { width: 160, height: 90 },
      ...(each === pinned ? { pinned: true } : {}),
    }));
    await show(of(name), name, { show: wish });
  }

  const phase = async () => {
    const [from, before] = [performance.now(), await everybody(pages)];
    await pages[0].page.waitForTimeout(PHASE_MS);
    const [to, after] = [performance.now(), await everybody(pages)];
    return { from, to, ...change(before, after, numbers) };
  };
  await pages[0].page.waitForTimeout(SETTLE_MS);
  const wide = await phase();
  way.down.set({ kbps: KBPS, queueMs: 300 });
  await pages[0].page.waitForTimeout(SETTLE_MS);
  const { dropped, packets } = { ...way.down.counts };
  const narrow = await phase();

  const rates = way.down.rates(narrow.from, narrow.to);
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const pinned = narrow.seen.narrow[numbers.get(PINNED)];
  t.diagnostic(
    JSON.stringify({
      kbps: { mean: Math.round(mean), most: Math.round(Math.max(...rates)) },
      dropped: way.down.counts.dropped - dropped,
      packets: way.down.counts.packets - packets,
      concealed: { narrow: narrow.concealed.narrow, control: narrow.concealed[CONTROL], wide: wide.concealed.narrow },
      heard_kbps: narrow.heard.narrow,
      pinned,
      seen: Object.values(narrow.seen.narrow),
      received: { wide: wide.received, narrow: narrow.received },
      sent: { wide: wide.sent, narrow: narrow.sent },
    }),
  );
  assert.ok(mean <= KBPS, `${mean.toFixed(0)} kbit/s were sent to who has ${KBPS}`);
  assert.ok(narrow.concealed.narrow < 0.02 + narrow.concealed[CONTROL], `${(100 * narrow.concealed.narrow).toFixed(1)} % of the sound was concealed`);
  assert.ok(pinned?.fps >= 7, `the pinned picture came at ${pinned?.fps} a second`);
  // Of what is sent the others receive as much as before: how many pictures that is depends on the machine.
  for (const name of names.filter((name) => name !== 'narrow')) {
    assert.equal(Object.keys(narrow.seen[name]).length, 3, `how many ${name} sees`);
    const lost = wide.received[name] - narrow.received[name];
    assert.ok(Math.abs(lost) <= 0.02, `${name} received ${wide.received[name]} of what was sent, then ${narrow.received[name]}`);
  }
  assert.deepEqual(pages.flatMap(({ problems }) => problems), []);
});

async function everybody(pages) {
  return Object.assign({}, ...(await Promise.all(pages.map(({ page }) => figures(page)))), { at: performance.now() });
}

/**
 * What happened between two sets of figures: the pictures that each sent a second, whose pictures each saw and how many a second,
 * which share of the pictures sent by those that one shows was received, and which share of the sound was concealed.
 */
function change({ at: from, ...before }, { at: to, ...after }, numbers) {
  const seconds = (to - from) / 1_000;
  const result = { sent: {}, seen: {}, received: {}, concealed: {}, heard: {} };
  const names = new Map([...numbers].map(([name, number]) => [number, name]));
  for (const name of Object.keys(after)) result.sent[name] = round((after[name].sent - before[name].sent) / seconds);
  for (const [name, now] of Object.entries(after)) {
    const earlier = before[name];
    result.seen[name] = {};
    let [received, expected] = [0, 0];
    for (const picture of now.pictures) {
      const was = earlier.pictures.find((each) => each.mid === picture.mid);
      if (picture.source === null || was === undefined) continue;
      const frames = picture.framesReceived - was.framesReceived;
      if (frames === 0) continue;
      const fps = (picture.framesDecoded - was.framesDecoded) / seconds;
      result.seen[name][picture.source.participant] = {
        fps: round(fps),
        height: picture.frameHeight,
        kbps: round(((picture.bytes - was.bytes) * 8e-3) / seconds),
        repaired_kbps: round(((picture.repaired - was.repaired) * 8e-3) / seconds),
        key_frames: picture.keyFrames - was.keyFrames,
        asked_for: picture.asked - was.asked,
        lost: picture.packetsLost - was.packetsLost,
      };
      const whose = names.get(picture.source.participant);
      received += frames;
      expected += after[whose].sent - before[whose].sent;
    }
    result.received[name] = expected === 0 ? 0 : received / expected;
    result.heard[name] = round(((now.heard - earlier.heard) * 8e-3) / seconds);
    result.concealed[name] = (now.concealed - earlier.concealed) / (now.samples - earlier.samples);
  }
  return result;
}

function round(value) {
  return Math.round(100 * value) / 100;
}
