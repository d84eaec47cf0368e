// Participants of a room in browsers' pages, by the protocol alone.

import { install } from './participant.mjs';

/**
 * Joins `room` from this page, which must be one of the server's, as `window.participant`. Sends the devices' sound and
 * picture, and plays what comes; `via` is the port of a relay to the server's media. With `only` (`udp`, `tcp`) it is told of
 * no candidates of another protocol, as if its network blocked it.
 */
export async function join(
  page,
  { name, room, encodings = [{ scalabilityMode: 'L1T3' }], pictures = 9, size = [320, 180], via = null, only = null },
) {
  await page.evaluate(install);
  return page.evaluate(
    async ({ size: [width, height], ...options }) => {
      window.participant?.pc?.close();
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width, height } });
      const audio = document.createElement('audio');
      const video = document.createElement('video');
      video.className = 'remote-picture';
      video.muted = true;
      audio.autoplay = video.autoplay = true;
      document.body.replaceChildren(audio, video);
      const element = { microphone: audio, camera: video };
      let me = null;
      const show = () => {
        for (const [mid, source] of me?.slots ?? []) {
          if (source === null || element[source.kind] === undefined) continue;
          if (me.watched !== null && source.participant !== me.watched) continue;
          const { track } = me.receiver(mid);
          const target = element[source.kind];
          if (target.srcObject?.getTracks()[0] === track) continue;
          target.srcObject = new MediaStream([track]);
          target.play().catch((error) => error.name === 'AbortError' || me.problems.push(String(error)));
        }
      };
      me = await window.enter({ ...options, stream, onEvent: (event) => event.type === 'slots_changed' && show() });
      Object.assign(me, { watched: null, show, problems: [] });
      window.participant = me;
      show();
      return me.joined;
    },
    { name, room, encodings, pictures, size, via, only },
  );
}

/** Sends a request about the room, with more fields. */
export async function ask(page, type, fields = {}) {
  return page.evaluate(({ type, fields }) => {
    const me = window.participant;
    return me.request({ type, room: me.room, ...fields });
  }, { type, fields });
}

/** Waits until a slot shows this source; gives its mid. */
export async function slotOf(page, participant, kind) {
  const found = await page.waitForFunction(
    ({ participant, kind }) => {
      for (const [mid, source] of window.participant.slots) {
        if (source?.participant === participant && source.kind === kind) return mid;
      }
      return null;
    },
    { participant, kind },
  );
  return found.jsonValue();
}

/** Which numbers (CSRC) the packets carried that a slot received of late, the last first. */
export async function contributors(page, mid) {
  return page.evaluate((mid) => {
    const { receiver } = window.participant.pc.getTransceivers().find((each) => each.mid === mid);
    const sources = receiver.getContributingSources().toSorted((a, b) => b.timestamp - a.timestamp);
    return sources.map((each) => each.source);
  }, mid);
}

/** Waits until an event of this type has come for which `fields` hold. */
export async function eventOf(page, type, fields = {}) {
  const found = await page.waitForFunction(
    ({ type, fields }) => {
      const fits = (event) => Object.entries(fields).every(([key, value]) => event[key] === value);
      return window.participant.events.find((event) => event.type === type && fits(event)) ?? null;
    },
    { type, fields },
  );
  return found.jsonValue();
}

/** What carries the connection: `udp` or `tcp`, as its selected pair says. */
export async function carrier(page) {
  return page.evaluate(async () => {
    const stats = await window.participant.pc.getStats();
    const transport = [...stats.values()].find((each) => each.type === 'transport');
    const pair = stats.get(transport.selectedCandidatePairId);
    return stats.get(pair.remoteCandidateId).protocol;
  });
}
