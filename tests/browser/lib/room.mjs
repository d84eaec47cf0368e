// A participant of a room in a few lines, in a browser's page, by the protocol alone: without Halloo's own client.

/**
 * Joins `room` from this page, which must be one of the server's. Sends the devices' sound and picture. With `only` (`udp`,
 * `tcp`) it is told of no candidates of another protocol, as if its network blocked it.
 */
export async function join(
  page,
  { name, room, encodings = [{ scalabilityMode: 'L1T3' }], pictures = 9, size = [320, 180], only = null },
) {
  return page.evaluate(
    async ({ name, room, encodings, pictures, size, only }) => {
      const KEPT = /sdes:|dependency-descriptor|transport-wide|abs-send-time|ssrc-audio-level|video-orientation/;
      const me = { room, events: [], descriptions: 0, slots: new Map(), participants: new Map(), problems: [] };
      window.participant?.pc?.close();
      window.participant = me;

      const socket = new WebSocket(new URL('/ws', location.href.replace(/^http/, 'ws')), 'halloo.v1');
      const replies = new Map();
      let nextId = 1;
      me.request = (request) => {
        const id = nextId++;
        socket.send(JSON.stringify({ id, request }));
        return new Promise((resolve, reject) => replies.set(id, { resolve, reject }));
      };
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if ('reply_to' in message) {
          const { resolve, reject } = replies.get(message.reply_to);
          if (message.error) reject(new Error(`${message.error.code}: ${message.error.message}`));
          else resolve(message.result);
          return;
        }
        me.events.push(message.event);
        me.take?.(message.event);
      };
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error('no connection to the server'));
      });
      const hello = { type: 'hello', credential: { type: 'guest', name }, device: `raw-${name}` };
      await me.request({ ...hello, client: { name: 'halloo-tests', version: '0' } });

      const [width, height] = size;
      const devices = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width, height } });
      const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
      me.pc = pc;
      const trim = (transceiver, kind) => {
        const wanted = (codec) =>
          kind === 'audio'
            ? codec.mimeType === 'audio/opus'
            : codec.mimeType === 'video/rtx' || (codec.mimeType === 'video/AV1' && !/profile=[12]/.test(codec.sdpFmtpLine ?? ''));
        transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities(kind).codecs.filter(wanted));
        const extensions = transceiver.getHeaderExtensionsToNegotiate();
        for (const each of extensions) each.direction = KEPT.test(each.uri) ? 'sendrecv' : 'stopped';
        transceiver.setHeaderExtensionsToNegotiate(extensions);
        return transceiver;
      };
      me.trim = trim;
      const [sound] = devices.getAudioTracks();
      const [picture] = devices.getVideoTracks();
      trim(pc.addTransceiver(sound, { direction: 'sendonly' }), 'audio');
      trim(pc.addTransceiver(picture, { direction: 'sendonly', sendEncodings: encodings }), 'video');
      trim(pc.addTransceiver('video', { direction: 'sendonly', sendEncodings: [{ scalabilityMode: 'L1T3' }] }), 'video');
      for (let i = 0; i < 3; i++) trim(pc.addTransceiver('audio', { direction: 'recvonly' }), 'audio');
      for (let i = 0; i < pictures; i++) trim(pc.addTransceiver('video', { direction: 'recvonly' }), 'video');
      const describe = pc.setRemoteDescription.bind(pc);
      pc.setRemoteDescription = (description) => {
        me.descriptions += 1;
        return describe(description);
      };

      const audio = document.createElement('audio');
      const video = document.createElement('video');
      video.className = 'remote-picture';
      video.muted = true;
      audio.autoplay = video.autoplay = true;
      document.body.replaceChildren(audio, video);
      const element = { microphone: audio, camera: video };
      me.watched = null;
      me.show = () => {
        for (const [mid, source] of me.slots) {
          if (source === null || element[source.kind] === undefined) continue;
          if (me.watched !== null && source.participant !== me.watched) continue;
          const { track } = pc.getTransceivers().find((each) => each.mid === mid).receiver;
          const target = element[source.kind];
          if (target.srcObject?.getTracks()[0] === track) continue;
          target.srcObject = new MediaStream([track]);
          target.play().catch((error) => error.name === 'AbortError' || me.problems.push(String(error)));
        }
      };
      me.take = (event) => {
        if (event.room !== room) return;
        if (event.type === 'slots_changed') {
          for (const { mid, source } of event.slots) me.slots.set(mid, source ?? null);
          me.show();
        } else if (event.type === 'participant_joined' || event.type === 'participant_changed') {
          me.participants.set(event.participant.participant, event.participant);
        } else if (event.type === 'participant_left') {
          me.participants.delete(event.participant);
        }
      };
      me.negotiate = async (ask) => {
        await pc.setLocalDescription();
        const { sdp } = pc.localDescription;
        const reply = await ask(sdp);
        const told = (line) => only === null || !line.startsWith('a=candidate:') || line.split(' ')[2] === only;
        const lines = reply.sdp.split('\r\n');
        await pc.setRemoteDescription({ type: 'answer', sdp: lines.filter(told).join('\r\n') });
        return { sdp, reply };
      };
      me.media = { microphone: 'on', camera: 'on', screen: 'off' };
      const { sdp, reply } = await me.negotiate((sdp) => me.request({ type: 'join_room', room, media: me.media, sdp }));
      me.you = reply.snapshot.you;
      for (const each of reply.snapshot.participants) me.participants.set(each.participant, each);
      await new Promise((resolve, reject) => {
        const look = () => {
          if (pc.connectionState === 'connected') resolve();
          if (pc.connectionState === 'failed') reject(new Error('the media connection failed'));
        };
        pc.onconnectionstatechange = look;
        look();
        setTimeout(() => reject(new Error(`the media connection is ${pc.connectionState}`)), 15_000);
      });
      return { you: me.you, offered: sdp.length, answer: reply.sdp };
    },
    { name, room, encodings, pictures, size, only },
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

/** Which numbers (CSRC) the packets carried that a slot received last. */
export async function contributors(page, mid) {
  return page.evaluate((mid) => {
    const { receiver } = window.participant.pc.getTransceivers().find((each) => each.mid === mid);
    return receiver.getContributingSources().map((each) => each.source);
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
