// A room of twelve of all kinds: two browsers with the page, two native endpoints, and eight clients of `halloo load`.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertGoesOn, assertHeard, assertHeardInRoom, assertNumbersGoOn } from './lib/checks.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { joinRoom, observe, pictureOf, signIn, watch } from './lib/page.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { readWav } from './lib/wav.mjs';
import { framesOf } from './lib/y4m.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 180_000 };
const ROOM = 'standup';
const LOOP = 240;
const SIZE = { width: 320, height: 180, frames: LOOP };
const PAGES = ['alice', 'bob'];
const NATIVES = ['robot', 'dalek'];
/** Beside these two one of the load's clients speaks: three voices, as many as are heard at once. */
const SPEAKERS = ['alice', 'robot'];
const CLIENTS = 8;
const CLIENT_FPS = 8;
/** The load's clients play a clip of four seconds again and again. */
const CLIENT_LOOP = 4 * CLIENT_FPS;
const WATCHED_MS = 6_000;

test('a room of twelve: everybody sees everybody, who speaks is heard, and native endpoints record', options, async (t) => {
  const folder = await scratch(t);
  const people = {};
  for (const [index, name] of [...PAGES, ...NATIVES].entries()) {
    const [says, shows] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    const first = 1_000 * (index + 1);
    const voice = await writeVoice(says, SPEAKERS.includes(name) ? 8 : 0.05, index + 1);
    await writePictures(shows, { ...SIZE, first, hue: 30 * index });
    people[name] = { says, shows, voice, first, loop: LOOP, got: path.join(folder, `${name}-got`) };
  }
  const { alice, robot } = people;
  const server = await serve(t, { folder });
  const url = server.url.replace(/^http/, 'ws');
  const shape = ['--participants', String(CLIENTS), '--ramp', '8', '--tiles', '12', '--duration', '3m'];
  const media = ['--size', '320x180', '--fps', String(CLIENT_FPS), '--video-kbps', '120'];
  const load = halloo(t, ['load', '--attach', url, '--room', ROOM, ...shape, ...media, '--json']);
  const clients = Array.from({ length: CLIENTS }, (_, number) => `load-${load.child.pid}-${number}`);
  for (const name of clients) people[name] = { first: 0, loop: CLIENT_LOOP };

  const pages = {};
  for (const name of PAGES) {
    const { page, problems } = await launch(t, { folder, name, audio: people[name].says, video: people[name].shows });
    await signIn(page, server.url, name);
    await joinRoom(page, ROOM);
    pages[name] = { page, problems };
  }
  const natives = NATIVES.map((name) => {
    const { says, shows, got } = people[name];
    const flags = ['--server', url, '--as', name, '--room', ROOM, '--record', got, '--audio-out', 'none', '--json'];
    return halloo(t, ['join', ...flags, '--audio-in', says, '--video-in', shows, '--slots', '12', '--duration', '40s']);
  });
  const othersThan = (name) => [...PAGES, ...NATIVES, ...clients].filter((each) => each !== name);

  for (const [name, { page }] of Object.entries(pages)) {
    await page.getByText('12 people').waitFor();
    // Nine at first, and then all on one page: more slots by a further offer.
    await page.getByText('1 of 2').waitFor();
    await page.getByRole('button', { name: 'Smaller pictures, more on a page' }).click();
    await page.getByText('1 of 2').waitFor({ state: 'detached' });
    for (const other of othersThan(name)) {
      await pictureOf(page, other).catch((cause) => {
        throw new Error(`${name} has no picture of ${other}`, { cause });
      });
    }
  }
  for (const [name, { page }] of Object.entries(pages)) {
    const others = othersThan(name);
    const selectors = await Promise.all(others.map((other) => pictureOf(page, other)));
    const taken = await watch(page, WATCHED_MS, selectors);
    const seen = others.map((other, at) => {
      const { first, loop } = people[other];
      return assertGoesOn(taken[at], { what: `${name} of ${other}`, first, loop, distinct: 16 });
    });
    t.diagnostic(`${name} saw of each: ${seen.join(', ')}`);
  }
  const { sounds } = await observe(pages.alice.page, 4_000, { picture: await pictureOf(pages.alice.page, 'robot') });
  t.diagnostic(`alice of robot: ${JSON.stringify(assertHeardInRoom(sounds, robot.voice, alice.voice))}`);

  for (const [index, name] of NATIVES.entries()) {
    const { code } = await natives[index].exited;
    assert.equal(code, 0, natives[index].stderr());
    const report = natives[index].lines.at(-1);
    const folderOf = new Map(report.participants.map((each) => [each.user, path.join(people[name].got, each.folder)]));
    assert.deepEqual([...folderOf.keys()].toSorted(), othersThan(name).toSorted());
    const seen = [];
    for (const [other, folder] of folderOf) {
      const { numbers } = await framesOf(path.join(folder, 'received.y4m'));
      // A recording begins when its participant came, and shows nothing until there is a picture.
      numbers.splice(0, numbers.findIndex((number) => number !== null));
      const { first, loop } = people[other];
      seen.push(assertNumbersGoOn(numbers, { what: `${name}'s recording of ${other}`, first, loop, distinct: 24 }));
    }
    t.diagnostic(`${name} recorded of each: ${seen.join(', ')}`);
    const spoken = SPEAKERS.find((speaker) => speaker !== name);
    const unheard = name === 'robot' ? robot : people.bob;
    assertHeard(await readWav(path.join(folderOf.get(spoken), 'received.wav')), people[spoken].voice, unheard.voice);
  }

  load.child.kill('SIGINT');
  const { code } = await load.exited;
  assert.equal(code, 0, load.stderr());
  const { joins, pictures, counts } = load.lines.at(-1);
  t.diagnostic(`the load's clients: ${JSON.stringify({ joins, pictures })}`);
  assert.deepEqual([joins.joined, joins.failed, pictures.decoded], [CLIENTS, 0, CLIENTS]);
  // Everybody is shown by each of the others, the browsers and native endpoints too.
  assert.deepEqual([pictures.tiles_wanted, pictures.tiles_seen], [CLIENTS * 11, CLIENTS * 11]);
  assert.equal(counts.altered, 0);
  assert.deepEqual(Object.values(pages).flatMap(({ problems }) => problems), []);
});
