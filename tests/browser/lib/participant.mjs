// A participant of a room in a few lines, by the protocol alone: without Halloo's own client. It runs in a browser's page.

/** Defines `window.enter`, which joins a room and gives the participant; one page may have several. */
export function install() {
  if (window.enter !== undefined) return;
  const KEPT = /sdes:|dependency-descriptor|transport-wide|abs-send-time|ssrc-audio-level|video-orientation/;

  /** A connection to the server of this page, signed in as a guest. */
  async function signIn(name, take) {
    const socket = new WebSocket(new URL('/ws', location.href.replace(/^http/, 'ws')), 'halloo.v1');
    const replies = new Map();
    let nextId = 1;
    const request = (request) => {
      const id = nextId++;
      socket.send(JSON.stringify({ id, request }));
      return new Promise((resolve, reject) => replies.set(id, { resolve, reject }));
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (!('reply_to' in message)) {
        take(message.event);
        return;
      }
      const { resolve, reject } = replies.get(message.reply_to);
      if (message.error) reject(new Error(`${message.error.code}: ${message.error.message}`));
      else resolve(message.result);
    };
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error('no connection to the server'));
    });
    const hello = { type: 'hello', credential: { type: 'guest', name }, device: `raw-${name}` };
    await request({ ...hello, client: { name: 'halloo-tests', version: '0' } });
    return { request, close: () => socket.close() };
  }

  /** Keeps Opus, or AV1 and rtx, and the header extensions that the server reads. */
  function trim(transceiver, kind) {
    const wanted = (codec) =>
      kind === 'audio'
        ? codec.mimeType === 'audio/opus'
        : codec.mimeType === 'video/rtx' || (codec.mimeType === 'video/AV1' && !/profile=[12]/.test(codec.sdpFmtpLine ?? ''));
    transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities(kind).codecs.filter(wanted));
    const extensions = transceiver.getHeaderExtensionsToNegotiate();
    for (const each of extensions) each.direction = KEPT.test(each.uri) ? 'sendrecv' : 'stopped';
    transceiver.setHeaderExtensionsToNegotiate(extensions);
    return transceiver;
  }

  /** The answer with one UDP address in the place of all. */
  function through(sdp, port) {
    const candidate = `a=candidate:1 1 udp 2130706431 127.0.0.1 ${port} typ host\r\n`;
    let first = true;
    return sdp.replace(/a=candidate:.*\r\n/g, () => {
      const line = first ? candidate : '';
      first = false;
      return line;
    });
  }

  /** The answer without candidates of another protocol. */
  function limited(sdp, protocol) {
    const told = (line) => !line.startsWith('a=candidate:') || line.split(' ')[2] === protocol;
    return sdp.split('\r\n').filter(told).join('\r\n');
  }

  /** The encodings of which this much is received, made from what they were at first. */
  function adapted(now, initial, { encodings, spatial }) {
    return now.map((encoding, index) => {
      const { scalabilityMode, scaleResolutionDownBy = 1 } = initial[index];
      const [, most, rest] = /^L(\d)(T\d.*)$/.exec(scalabilityMode) ?? [null, 1, ''];
      const layers = Math.min(Number(most), Math.max(1, spatial));
      return {
        ...encoding,
        active: index < encodings,
        scalabilityMode: layers === 1 && most > 1 ? 'L1T3' : `L${layers}${rest}`,
        scaleResolutionDownBy: scaleResolutionDownBy * 2 ** (most - layers),
      };
    });
  }

  async function connected(pc) {
    let timer;
    await new Promise((resolve, reject) => {
      const look = () => {
        if (pc.connectionState === 'connected') resolve();
        if (pc.connectionState === 'failed') reject(new Error('the media connection failed'));
      };
      pc.addEventListener('connectionstatechange', look);
      look();
      timer = setTimeout(() => reject(new Error(`the media connection is ${pc.connectionState}`)), 15_000);
    });
    clearTimeout(timer);
  }

  /**
   * `stream` is what is sent, `encodings` how its picture is; `pictures` are the slots for pictures; `via` is the port of a
   * relay to the server's media, `only` the one protocol that gets through. Events are kept, and passed to `onEvent`.
   */
  window.enter = async ({ name, room, stream, encodings, pictures, via = null, only = null, onEvent = () => {} }) => {
    const me = { room, events: [], descriptions: 0, slots: new Map(), participants: new Map(), layers: [] };
    const take = (event) => {
      me.events.push(event);
      if (event.room !== room) return;
      if (event.type === 'slots_changed') {
        for (const { mid, source } of event.slots) me.slots.set(mid, source ?? null);
      } else if (event.type === 'participant_joined' || event.type === 'participant_changed') {
        me.participants.set(event.participant.participant, event.participant);
      } else if (event.type === 'participant_left') {
        me.participants.delete(event.participant);
      } else if (event.type === 'dominant_speaker') {
        me.speaker = event.participant ?? null;
      } else if (event.type === 'layers_wanted' && event.kind === 'camera') {
        me.layers.push({ at: Date.now(), encodings: event.encodings, spatial: event.spatial });
        me.adapting = (me.adapting ?? Promise.resolve()).then(() => me.adapt(event));
      }
      onEvent(event);
    };
    const server = await signIn(name, take);
    me.request = server.request;

    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    me.pc = pc;
    me.trim = trim;
    trim(pc.addTransceiver(stream.getAudioTracks()[0], { direction: 'sendonly' }), 'audio');
    me.camera = pc.addTransceiver(stream.getVideoTracks()[0], { direction: 'sendonly', sendEncodings: encodings });
    trim(me.camera, 'video');
    trim(pc.addTransceiver('video', { direction: 'sendonly', sendEncodings: [{ scalabilityMode: 'L1T3' }] }), 'video');
    for (let i = 0; i < 3; i++) trim(pc.addTransceiver('audio', { direction: 'recvonly' }), 'audio');
    for (let i = 0; i < pictures; i++) trim(pc.addTransceiver('video', { direction: 'recvonly' }), 'video');
    me.adapt = async (wanted) => {
      const parameters = me.camera.sender.getParameters();
      parameters.encodings = adapted(parameters.encodings, encodings, wanted);
      await me.camera.sender.setParameters(parameters);
    };
    me.receiver = (mid) => pc.getTransceivers().find((each) => each.mid === mid).receiver;
    const describe = pc.setRemoteDescription.bind(pc);
    pc.setRemoteDescription = (description) => {
      me.descriptions += 1;
      return describe(description);
    };
    me.negotiate = async (ask) => {
      await pc.setLocalDescription();
      const { sdp } = pc.localDescription;
      const reply = await ask(sdp);
      const answer = only === null ? reply.sdp : limited(reply.sdp, only);
      await pc.setRemoteDescription({ type: 'answer', sdp: via === null ? answer : through(answer, via) });
      return { sdp, reply };
    };
    // A busy machine sends fewer pictures, not smaller ones: sizes are what the tests look at.
    me.steady = async () => {
      const parameters = me.camera.sender.getParameters();
      await me.camera.sender.setParameters({ ...parameters, degradationPreference: 'maintain-resolution' });
    };
    me.media = { microphone: 'on', camera: 'on', screen: 'off' };
    const { sdp, reply } = await me.negotiate((sdp) => me.request({ type: 'join_room', room, media: me.media, sdp }));
    me.you = reply.snapshot.you;
    me.joined = { you: me.you, offered: sdp.length, answer: reply.sdp };
    for (const each of reply.snapshot.participants) me.participants.set(each.participant, each);
    me.adapting = (me.adapting ?? Promise.resolve()).then(me.steady);
    await me.adapting;
    await connected(pc);
    me.leave = async () => {
      await me.request({ type: 'leave_room', room });
      pc.close();
      server.close();
    };
    return me;
  };
}
