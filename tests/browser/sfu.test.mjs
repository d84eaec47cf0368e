// Browsers in a room, by the protocol alone: what the forwarding unit takes from one and gives to the others.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeard, assertSaw, assertSilent } from './lib/checks.mjs';
import { atEnd } from './lib/cleanup.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { observe } from './lib/page.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';
import { ask, carrier, contributors, eventOf, join, slotOf } from './lib/room.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 180_000 };
const LOOP = 240;
const ROOM = 'standup';

/** A server, and people with clips of their own on a page of it, who are in no room yet. */
async function people(t, names, { width = 320, height = 180 } = {}) {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const all = {};
  for (const [index, name] of names.entries()) {
    const [audio, video] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    const first = 1_000 * (index + 1);
    const voice = await writeVoice(audio, 8, index + 1);
    await writePictures(video, { width, height, frames: LOOP, first, hue: 20 * index });
    const { page, problems } = await launch(t, { folder, name, audio, video });
    await page.goto(server.url);
    all[name] = { page, voice, first, problems };
  }
  atEnd(t, () => {
    for (const { problems } of Object.values(all)) assert.deepEqual(problems, [], 'errors on the page');
  });
  return { folder, server, ...all };
}

/** Hears and sees somebody, and not somebody else. */
async function assertGets(at, from, other, ms, checks = {}) {
  const observed = await observe(at.page, ms);
  return {
    ...assertHeard(observed, from.voice, other.voice),
    ...assertSaw(observed.pictures, { seconds: ms / 1_000, loop: LOOP, first: from.first, ...checks }),
  };
}

/** Asks again and again until it holds; the test's own limit ends that. */
async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 100));
}

async function metric(server, name) {
  const page = await (await fetch(new URL('metrics', server.url))).text();
  const lines = page.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  assert.ok(lines.length > 0, `no ${name} in\n${page}`);
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

test('two browsers hear and see each other through the forwarding unit', options, async (t) => {
  const { server, alice, bob } = await people(t, ['alice', 'bob']);
  const first = await join(alice.page, { name: 'alice', room: ROOM });
  const second = await join(bob.page, { name: 'bob', room: ROOM });
  assert.ok(first.offered < 16_384, `the offer has ${first.offered} bytes`);
  // Chromium would rather have AES-CM, which costs four times as much a packet.
  const cipher = await alice.page.evaluate(async () => {
    const stats = [...(await window.participant.pc.getStats()).values()];
    return stats.find((each) => each.type === 'transport').srtpCipher;
  });
  assert.match(cipher, /AEAD_AES_(128|256)_GCM/);
  const camera = await slotOf(bob.page, first.you, 'camera');
  const voice = await slotOf(bob.page, first.you, 'microphone');
  await slotOf(alice.page, second.you, 'camera');
  await slotOf(alice.page, second.you, 'microphone');
  await bob.page.waitForTimeout(1_500);

  const [atBob, atAlice] = await Promise.all([
    assertGets(bob, alice, bob, 4_000),
    assertGets(alice, bob, alice, 4_000),
  ]);
  t.diagnostic(JSON.stringify({ atAlice, atBob, offered: first.offered, answered: first.answer.length }));
  // Packets say whose they are.
  assert.deepEqual(await contributors(bob.page, voice), [4 * first.you]);
  assert.deepEqual(await contributors(bob.page, camera), [4 * first.you + 1]);

  // Muted and turned off at the server, whatever the browser still sends.
  await ask(alice.page, 'room_media', { media: { microphone: 'muted', camera: 'off', screen: 'off' } });
  const changed = await eventOf(bob.page, 'participant_changed');
  assert.equal(changed.participant.media.microphone, 'muted');
  await bob.page.waitForTimeout(500);
  const quiet = await observe(bob.page, 1_500);
  assertSilent(quiet);
  assert.equal(quiet.pictures.length, 0, 'pictures of a camera that is off');
  await ask(alice.page, 'room_media', { media: { microphone: 'on', camera: 'on', screen: 'off' } });
  await bob.page.waitForTimeout(1_000);
  await assertGets(bob, alice, bob, 3_000);

  assert.ok((await metric(server, 'halloo_sfu_rtp_sent_total')) > 500);
  assert.equal(await metric(server, 'halloo_sfu_participants'), 2);
  await ask(alice.page, 'leave_room');
  const left = await eventOf(bob.page, 'participant_left');
  assert.deepEqual([left.participant, left.reason], [first.you, 'left']);
  assert.equal(await bob.page.evaluate(() => window.participant.descriptions), 1);
});

test('a browser in a network that blocks UDP hears, sees and is seen over TCP', options, async (t) => {
  const { server, alice, bob } = await people(t, ['alice', 'bob']);
  const first = await join(alice.page, { name: 'alice', room: ROOM, only: 'tcp' });
  const second = await join(bob.page, { name: 'bob', room: ROOM });
  const lines = first.answer.split('\r\n').filter((line) => line.startsWith('a=candidate:'));
  assert.deepEqual(lines.map((line) => line.split(' ')[2]), ['udp', 'tcp']);
  for (const [at, from] of [[bob, first.you], [alice, second.you]]) {
    await slotOf(at.page, from, 'camera');
    await slotOf(at.page, from, 'microphone');
  }
  await bob.page.waitForTimeout(2_000);
  assert.deepEqual([await carrier(alice.page), await carrier(bob.page)], ['tcp', 'udp']);
  const freezes = (who) =>
    who.page.evaluate(async () => {
      const stats = [...(await window.participant.pc.getStats()).values()];
      return stats.filter((each) => each.type === 'inbound-rtp').reduce((sum, each) => sum + (each.freezeCount ?? 0), 0);
    });
  const before = [await freezes(alice), await freezes(bob)];
  const [atBob, atAlice] = await Promise.all([
    assertGets(bob, alice, bob, 5_000),
    assertGets(alice, bob, alice, 5_000),
  ]);
  const frozen = [(await freezes(alice)) - before[0], (await freezes(bob)) - before[1]];
  t.diagnostic(JSON.stringify({ atAlice, atBob, frozen }));
  assert.deepEqual(frozen, [0, 0], 'pictures stood still');
  assert.ok((await metric(server, 'halloo_sfu_tcp_connections')) >= 1);
  assert.equal(await metric(server, 'halloo_sfu_tcp_frames_dropped_total'), 0);

  // Who leaves takes the connection along.
  await ask(alice.page, 'leave_room');
  await alice.page.evaluate(() => window.participant.pc.close());
  await ask(bob.page, 'leave_room');
  await bob.page.evaluate(() => window.participant.pc.close());
  await until(async () => (await metric(server, 'halloo_sfu_tcp_connections')) === 0);
});

test('somebody joins and leaves: nobody negotiates again, and slots follow', options, async (t) => {
  const { alice, bob, carol } = await people(t, ['alice', 'bob', 'carol']);
  const numbers = {};
  for (const [name, who] of Object.entries({ alice, bob, carol })) {
    numbers[name] = (await join(who.page, { name, room: ROOM })).you;
  }
  for (const [at, others] of [[alice, ['bob', 'carol']], [bob, ['alice', 'carol']], [carol, ['alice', 'bob']]]) {
    for (const other of others) {
      await slotOf(at.page, numbers[other], 'camera');
      await slotOf(at.page, numbers[other], 'microphone');
    }
  }
  // Bob looks at and listens to one after the other.
  await bob.page.waitForTimeout(1_500);
  for (const [name, who, other] of [['alice', alice, carol], ['carol', carol, alice]]) {
    await bob.page.evaluate((watched) => {
      window.participant.watched = watched;
      window.participant.show();
    }, numbers[name]);
    await bob.page.waitForTimeout(500);
    await assertGets(bob, who, other, 3_000, { minFps: 5 });
  }
  await eventOf(bob.page, 'dominant_speaker');

  await carol.page.evaluate(() => window.participant.pc.close());
  await eventOf(bob.page, 'participant_left', { participant: numbers.carol });
  await bob.page.waitForFunction(
    (gone) => [...window.participant.slots.values()].every((source) => source?.participant !== gone),
    numbers.carol,
  );
  const again = await join(carol.page, { name: 'carol', room: ROOM });
  assert.notEqual(again.you, numbers.carol, 'a number is never given to another');
  await slotOf(bob.page, again.you, 'camera');
  for (const who of [alice, bob]) {
    assert.equal(await who.page.evaluate(() => window.participant.descriptions), 1);
  }
});

const FORMS = {
  'AV1 with three spatial layers': [{ scalabilityMode: 'L3T3_KEY', maxBitrate: 2_000_000 }],
  // As many as libwebrtc sends of a picture of this size.
  'a simulcast of two encodings': [
    { rid: 'h', scaleResolutionDownBy: 2, scalabilityMode: 'L1T3', maxBitrate: 500_000 },
    { rid: 'f', scaleResolutionDownBy: 1, scalabilityMode: 'L1T3', maxBitrate: 1_500_000 },
  ],
};

for (const [form, encodings] of Object.entries(FORMS)) {
  test(`${form}: a tile gets the layers of its size`, options, async (t) => {
    const { alice, bob } = await people(t, ['alice', 'bob'], { width: 640, height: 360 });
    const { you } = await join(alice.page, { name: 'alice', room: ROOM, encodings, size: [640, 360] });
    await join(bob.page, { name: 'bob', room: ROOM });
    await slotOf(bob.page, you, 'camera');
    const tile = (width, height) => {
      const show = [{ source: { participant: you, kind: 'camera' }, size: { width, height }, pinned: true }];
      return ask(bob.page, 'subscribe', { show });
    };
    const shown = (height, atMost) =>
      bob.page.waitForFunction(
        ({ height, atMost }) => {
          const now = document.querySelector('video.remote-picture').videoHeight;
          return atMost ? now > 0 && now <= height : now >= height;
        },
        { height, atMost },
      );
    await tile(640, 360);
    await shown(360, false);
    await bob.page.waitForTimeout(500);
    const large = await assertGets(bob, alice, bob, 3_000, { minFps: 8 });
    await tile(160, 90);
    await shown(180, true);
    await bob.page.waitForTimeout(500);
    const small = await assertGets(bob, alice, bob, 3_000, { minFps: 8 });
    await eventOf(alice.page, 'layers_wanted', { kind: 'camera' });
    await tile(640, 360);
    await shown(360, false);
    t.diagnostic(JSON.stringify({ large, small }));
  });
}

test('a later offer restarts ICE and adds slots, while media goes on', options, async (t) => {
  const { alice, bob } = await people(t, ['alice', 'bob']);
  const { you } = await join(alice.page, { name: 'alice', room: ROOM });
  await join(bob.page, { name: 'bob', room: ROOM, pictures: 1 });
  const camera = await slotOf(bob.page, you, 'camera');
  await bob.page.waitForTimeout(1_000);
  const renegotiate = (page, { restart, more }) =>
    page.evaluate(
      async ({ restart, more }) => {
        const me = window.participant;
        const ufrag = () => /a=ice-ufrag:(\S+)/.exec(me.pc.remoteDescription.sdp)[1];
        const before = ufrag();
        if (restart) me.pc.restartIce();
        for (let i = 0; i < more; i++) me.trim(me.pc.addTransceiver('video', { direction: 'recvonly' }), 'video');
        await me.negotiate((sdp) => me.request({ type: 'room_offer', room: me.room, sdp }));
        return { before, after: ufrag(), state: me.pc.connectionState };
      },
      { restart, more },
    );
  const { before, after } = await renegotiate(bob.page, { restart: true, more: 0 });
  assert.notEqual(before, after, 'new ICE credentials');
  await assertGets(bob, alice, bob, 4_000);
  assert.equal(await slotOf(bob.page, you, 'camera'), camera);

  // A screen share beside the camera needs a second slot.
  await ask(alice.page, 'room_media', { media: { microphone: 'on', camera: 'on', screen: 'on' } });
  await alice.page.evaluate(async () => {
    const { pc } = window.participant;
    const [sound, picture, screen] = pc.getSenders();
    await screen.replaceTrack(picture.track.clone());
    return sound.track?.kind;
  });
  await bob.page.waitForTimeout(500);
  await renegotiate(bob.page, { restart: false, more: 3 });
  const slots = new Set([await slotOf(bob.page, you, 'screen'), await slotOf(bob.page, you, 'camera')]);
  assert.equal(slots.size, 2);
  await assertGets(bob, alice, bob, 3_000);
});

test('offers that cannot be answered are refused by name, and the room goes on', options, async (t) => {
  const { alice } = await people(t, ['alice']);
  await join(alice.page, { name: 'alice', room: ROOM });
  const refusals = await alice.page.evaluate(async () => {
    const me = window.participant;
    const offer = me.pc.localDescription.sdp;
    const bad = {
      'no description': 'hello',
      'no fingerprint': offer.replace(/a=fingerprint:.*\r\n/g, ''),
      'wrong role': offer.replace(/a=setup:\w+/g, 'a=setup:passive'),
      'one mid twice': offer.replace(/a=mid:1\r\n/, 'a=mid:0\r\n'),
      'no codec': offer.replace(/opus/gi, 'pcmu').replace(/AV1/g, 'VP8'),
    };
    const found = {};
    for (const [name, sdp] of Object.entries(bad)) {
      const request = { type: 'join_room', room: 'another', media: me.media, sdp };
      found[name] = await me.request(request).then(() => 'taken', (error) => error.message);
    }
    return found;
  });
  t.diagnostic(JSON.stringify(refusals, null, 1));
  for (const [name, message] of Object.entries(refusals)) assert.match(message, /^offer_refused: ./, name);
  await alice.page.waitForTimeout(500);
  assert.equal(await alice.page.evaluate(() => window.participant.pc.connectionState), 'connected');
});

test('the server is killed and comes back: joining again is enough', options, async (t) => {
  const { folder, server, alice, bob } = await people(t, ['alice', 'bob']);
  await join(alice.page, { name: 'alice', room: ROOM });
  await join(bob.page, { name: 'bob', room: ROOM });
  await server.stop('SIGKILL');
  await serve(t, { folder, port: server.port });
  const { you } = await join(alice.page, { name: 'alice', room: ROOM });
  await join(bob.page, { name: 'bob', room: ROOM });
  await slotOf(bob.page, you, 'camera');
  await bob.page.waitForTimeout(1_500);
  await assertGets(bob, alice, bob, 3_000);
});

test('the server is told to stop: participants hear of it, and media goes on until it has gone', options, async (t) => {
  const { server, alice, bob } = await people(t, ['alice', 'bob']);
  const { you } = await join(alice.page, { name: 'alice', room: ROOM });
  await join(bob.page, { name: 'bob', room: ROOM });
  await slotOf(bob.page, you, 'camera');
  await bob.page.waitForTimeout(1_500);
  const stopping = server.stop('SIGTERM');
  await eventOf(bob.page, 'going_away');
  const { pictures } = await observe(bob.page, 1_500);
  assert.ok(pictures.length > 15, `${pictures.length} pictures while it drains`);
  const { code } = await stopping;
  assert.equal(code, 0);
});
