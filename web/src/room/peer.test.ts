import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeConnection, FakeTrack, installBrowser } from './fakes';
import { csrcOf } from './membership';
import { RoomPeer, type SentTracks } from './peer';

const NOTHING: SentTracks = { microphone: null, camera: null, screen: null };
const track = (kind: 'audio' | 'video', height?: number) => new FakeTrack(kind, height) as unknown as MediaStreamTrack;

function made(): { peer: RoomPeer; connection: FakeConnection; links: string[] } {
  const links: string[] = [];
  const peer = new RoomPeer([], { link: (link) => links.push(link) });
  const connection = FakeConnection.made[0];
  if (connection === undefined) throw new Error('no connection was made');
  return { peer, connection, links };
}

async function joined() {
  const all = made();
  await all.peer.offer();
  await all.peer.applyAnswer('answer');
  return all;
}

describe('the connection of a room', () => {
  beforeEach(() => installBrowser());
  afterEach(() => vi.unstubAllGlobals());

  it('offers what it may ever send, then its slots, trimmed to what rooms speak', async () => {
    const { peer, connection } = made();
    await peer.offer();
    const sections = connection.transceivers.map((each) => `${each.kind} ${each.direction}`);
    expect(sections).toEqual([
      'audio sendonly',
      'video sendonly',
      'video sendonly',
      ...Array(3).fill('audio recvonly'),
      ...Array(9).fill('video recvonly'),
    ]);
    expect(connection.transceivers[0]?.codecs).toEqual(['audio/opus minptime=10']);
    expect(connection.transceivers[1]?.codecs).toEqual(['video/rtx', 'video/AV1 level-idx=5;profile=0;tier=0']);
    expect(connection.transceivers.every((each) => each.sender.track === null)).toBe(true);
    expect(connection.transceivers[1]?.sender.encodings).toMatchObject([{ scalabilityMode: 'L3T3_KEY' }]);
    expect(peer.sound).toHaveLength(3);
    expect(peer.pictures.map((each) => each.mid)).toEqual(['6', '7', '8', '9', '10', '11', '12', '13', '14']);
  });

  it('negotiates once, whatever is turned on and off and however layers change', async () => {
    const { peer, connection } = await joined();
    for (let turn = 0; turn < 50; turn++) {
      const camera = turn % 2 === 0 ? track('video') : null;
      await peer.setTracks({
        microphone: track('audio'),
        camera,
        screen: turn % 3 === 0 ? track('video', 1_080) : null,
      });
      await peer.setWanted('camera', { encodings: turn % 2, spatial: turn % 4 });
    }
    expect(connection.remote).toEqual(['answer']);
    expect(connection.transceivers).toHaveLength(15);
  });

  it('sends no layer that nobody receives, and everything again after the camera was off', async () => {
    const { peer, connection } = await joined();
    const camera = () => connection.transceivers[1]?.sender.encodings[0];
    await peer.setTracks({ ...NOTHING, camera: track('video') });
    await peer.setWanted('camera', { encodings: 1, spatial: 1 });
    expect(camera()).toMatchObject({ active: true, scalabilityMode: 'L1T3', scaleResolutionDownBy: 4 });
    await peer.setWanted('camera', { encodings: 0, spatial: 0 });
    expect(camera()).toMatchObject({ active: false });
    await peer.setTracks(NOTHING);
    await peer.setTracks({ ...NOTHING, camera: track('video') });
    expect(camera()).toMatchObject({ active: true, scalabilityMode: 'L3T3_KEY', scaleResolutionDownBy: 1 });
  });

  it('keeps to the height that the room takes', async () => {
    const { peer, connection } = await joined();
    await peer.setLimits({ max_height: 540, max_participants: 9, max_publish_kbps: 900 });
    await peer.setTracks({ ...NOTHING, screen: track('video', 1_080) });
    expect(connection.transceivers[2]?.sender.encodings).toMatchObject([
      { scaleResolutionDownBy: 2, maxBitrate: 900_000 },
    ]);
  });

  it('asks for more slots only when told to, at the end, and at most 25', async () => {
    const { peer, connection } = await joined();
    const asked: string[] = [];
    const ask = async (offer: string) => {
      asked.push(offer);
      return 'second answer';
    };
    await peer.renegotiate(ask, { pictures: 9 });
    expect(asked).toEqual([]);
    await peer.renegotiate(ask, { pictures: 99 });
    expect(asked).toEqual(['offer of 31']);
    expect(connection.remote).toEqual(['answer', 'second answer']);
    expect(peer.pictures).toHaveLength(25);
  });

  it('is as before where a further offer is refused', async () => {
    const { peer, connection } = await joined();
    const refused = peer.renegotiate(() => Promise.reject(new Error('no')), { restart: true });
    await expect(refused).rejects.toThrow('no');
    expect(connection.restarts).toBe(1);
    expect(connection.signalingState).toBe('stable');
    expect(connection.remote).toEqual(['answer']);
  });

  it('tells what its slots show by the packets themselves, the latest first', async () => {
    const { peer, connection } = await joined();
    const old = { source: csrcOf({ participant: 2, kind: 'camera' }), timestamp: 1 };
    const current = { source: csrcOf({ participant: 7, kind: 'screen' }), timestamp: 2 };
    connection.csrcs.set('6', [old, current]);
    expect([...peer.readSlots()]).toEqual([['6', { participant: 7, kind: 'screen' }]]);
    expect(peer.pictures[0]?.shows()).toBe(30);
    expect(peer.pictures[1]?.shows()).toBeNull();
  });

  it('says how the connection is', async () => {
    const { connection, links } = await joined();
    for (const state of ['connected', 'disconnected', 'failed'] as const) connection.connect(state);
    expect(links).toEqual(['connected', 'interrupted', 'failed']);
  });

  it('uses relays, and asks no STUN server for an address that nobody needs', () => {
    const servers = [
      { urls: ['stun:s.example'] },
      { urls: ['turn:t.example', 'stun:t.example'], username: 'u', credential: 'c' },
    ];
    new RoomPeer(servers, { link: () => {} });
    expect(FakeConnection.made[0]?.configuration.iceServers).toEqual([
      { urls: ['turn:t.example'], username: 'u', credential: 'c' },
    ]);
  });
});

describe('browsers that can do less', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('without layers send several encodings, the smallest first', async () => {
    installBrowser({ layers: false });
    const { peer, connection } = made();
    await peer.offer();
    expect(connection.transceivers[1]?.sender.encodings.map((each) => each.rid)).toEqual(['q', 'h', 'f']);
    expect(peer.abilities).toEqual({ send: 'encodings', receive: true });
  });

  it('without AV1 still hear and are heard', async () => {
    installBrowser({ av1: false });
    const { peer, connection } = made();
    await peer.offer();
    expect(connection.transceivers.map((each) => each.kind)).toEqual(Array(4).fill('audio'));
    expect(peer.abilities).toEqual({ send: null, receive: false });
  });
});
