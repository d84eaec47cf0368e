// Many participants of rooms in one page, by the protocol alone. They share one moving picture, which each encodes for
// itself; each has a voice of its own, which is turned on and off.

import { install } from './participant.mjs';

/** Gives the page a picture of this size and rate, and `window.crowd`, participants by name. */
export async function gather(page, { size = [320, 180], fps = 15 } = {}) {
  await page.evaluate(install);
  await page.evaluate(
    ({ size: [width, height], fps }) => {
      const canvas = Object.assign(document.createElement('canvas'), { width, height });
      const paint = canvas.getContext('2d');
      const bars = Array.from({ length: 12 }, (_, index) => ({ hue: index * 30, y: (index * height) / 12, speed: 20 + 9 * index }));
      const draw = () => {
        const t = performance.now() / 1_000;
        paint.fillStyle = '#345';
        paint.fillRect(0, 0, width, height);
        for (const { hue, y, speed } of bars) {
          paint.fillStyle = `hsl(${hue} 60% 50%)`;
          paint.fillRect((t * speed) % width, y, width / 6, height / 14);
        }
      };
      draw();
      setInterval(draw, 1_000 / fps);
      const picture = canvas.captureStream(fps).getVideoTracks()[0];
      const sound = new AudioContext();
      const voices = new Map();
      /** A tone with overtones, whose level goes up and down as that of syllables does. */
      const voice = (name) => {
        const tone = new OscillatorNode(sound, { type: 'sawtooth', frequency: 110 + 17 * voices.size });
        const syllables = new OscillatorNode(sound, { frequency: 4 });
        const depth = new GainNode(sound, { gain: 0.05 });
        const level = new GainNode(sound, { gain: 0.1 });
        const gate = new GainNode(sound, { gain: 0 });
        const out = new MediaStreamAudioDestinationNode(sound, { channelCount: 1 });
        tone.connect(level).connect(gate).connect(out);
        syllables.connect(depth).connect(level.gain);
        tone.start();
        syllables.start();
        voices.set(name, { gate, track: out.stream.getAudioTracks()[0] });
        return voices.get(name);
      };
      window.crowd = new Map();
      window.speak = (name, on) => {
        voices.get(name).gate.gain.setTargetAtTime(on ? 1 : 0, sound.currentTime, 0.01);
      };
      window.join = async ({ name, listens, ...options }) => {
        const { track } = voices.get(name) ?? voice(name);
        const face = window.faces?.get(name) ?? picture;
        const me = await window.enter({ ...options, name, stream: new MediaStream([track, face]) });
        window.crowd.set(name, me);
        // Nothing is concealed where nothing is played.
        me.ears = me.pc
          .getReceivers()
          .filter((each) => listens && each.track.kind === 'audio')
          .map((each) => Object.assign(new Audio(), { srcObject: new MediaStream([each.track]), autoplay: true }));
        return me.joined;
      };
    },
    { size, fps },
  );
}

/** One of the crowd joins, and plays what it hears where it `listens`. */
export function joinCrowd(
  page,
  { name, room, encodings = [{ scalabilityMode: 'L1T3' }], pictures = 9, via = null, listens = false },
) {
  return page.evaluate((options) => window.join(options), { name, room, encodings, pictures, via, listens });
}

export function leaveCrowd(page, name) {
  return page.evaluate(async (name) => {
    const me = window.crowd.get(name);
    window.crowd.delete(name);
    await me.leave();
    return me.descriptions;
  }, name);
}

/** Turns a voice on or off. */
export function speak(page, name, on) {
  return page.evaluate(({ name, on }) => window.speak(name, on), { name, on });
}

/** Somebody of the crowd says what they show: a list as of the protocol's `subscribe`. */
export function show(page, name, wish) {
  return page.evaluate(
    ({ name, wish }) => {
      const me = window.crowd.get(name);
      return me.request({ type: 'subscribe', room: me.room, ...wish });
    },
    { name, wish },
  );
}

/**
 * Cumulative figures of each of the crowd: pictures sent and encoded, the picture's height as sent; of each slot what it
 * shows and has received; sound received and concealed.
 */
export function figures(page) {
  return page.evaluate(async () => {
    const all = {};
    for (const [name, me] of window.crowd) {
      const report = [...(await me.pc.getStats()).values()];
      const sent = report.filter((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video');
      const sources = report.filter((stat) => stat.type === 'media-source' && stat.kind === 'video');
      const received = report.filter((stat) => stat.type === 'inbound-rtp');
      const sum = (stats, field) => stats.reduce((total, stat) => total + (stat[field] ?? 0), 0);
      const sounds = received.filter((stat) => stat.kind === 'audio');
      all[name] = {
        sent: sum(sent, 'framesSent'),
        height: Math.max(0, ...sent.map((stat) => stat.frameHeight ?? 0)),
        captured: sum(sources, 'frames'),
        pictures: received
          .filter((stat) => stat.kind === 'video' && stat.framesReceived > 0)
          .map((stat) => {
            const { mid, framesReceived, framesDecoded, frameHeight, bytesReceived, packetsLost } = stat;
            const [keyFrames, repaired] = [stat.keyFramesDecoded ?? 0, stat.retransmittedBytesReceived ?? 0];
            const asked = stat.pliCount ?? 0;
            const [source, bytes] = [me.slots.get(mid) ?? null, bytesReceived + stat.headerBytesReceived];
            return { mid, source, framesReceived, framesDecoded, frameHeight, bytes, keyFrames, asked, repaired, packetsLost };
          }),
        samples: sum(sounds, 'totalSamplesReceived'),
        concealed: sum(sounds, 'concealedSamples') - sum(sounds, 'silentConcealedSamples'),
        heard: sum(sounds, 'bytesReceived') + sum(sounds, 'headerBytesReceived'),
      };
    }
    return all;
  });
}
