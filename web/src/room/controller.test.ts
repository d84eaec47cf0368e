import { signal } from '@preact/signals';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { LocalMedia } from '../media/local';
import type { ScreenShare } from '../media/screen';
import { RequestError } from '../protocol/client';
import type { ReplyResult, Request, RoomSnapshot } from '../protocol/types';
import { RoomController } from './controller';
import { FakeConnection, FakeTrack, installBrowser } from './fakes';
import type { Happening } from './membership';

const OFF = { microphone: 'off', camera: 'off', screen: 'off' } as const;
const SNAPSHOT: RoomSnapshot = {
  room: 'r',
  you: 1,
  grants: { publish: ['microphone', 'camera', 'screen'], subscribe: true, moderate: true },
  state: { locked: false, limits: { max_height: 720, max_participants: 9, max_publish_kbps: 3_000 } },
  participants: [
    { participant: 1, user: 'me', device: 'd', display_name: 'me', role: 'moderator', media: OFF, reach: 'back' },
  ],
};

/** A controller, its server and its devices. */
class World {
  readonly asked: Request[] = [];
  readonly told: Happening[] = [];
  readonly refusals: RequestError[] = [];
  readonly audio = signal<MediaStreamTrack | null>(null);
  readonly video = signal<MediaStreamTrack | null>(null);
  readonly muted = signal(false);
  readonly screen = { track: signal<MediaStreamTrack | null>(null), stop: vi.fn() };
  readonly closed = vi.fn();
  answer: (request: Request) => ReplyResult | RequestError = (request) =>
    request.type === 'join_room' ? { type: 'room_joined', sdp: 'answer', snapshot: SNAPSHOT } : { type: 'ok' };
  readonly room: RoomController;

  constructor() {
    const client = {
      request: async (request: Request) => {
        this.asked.push(request);
        const answer = this.answer(request);
        if (answer instanceof RequestError) throw answer;
        return answer;
      },
    };
    const { audio, video, muted } = this;
    const local = { audio, video, muted, setMuted: (on: boolean) => (muted.value = on), close: this.closed };
    this.room = new RoomController(
      client,
      local as unknown as LocalMedia,
      this.screen as unknown as ScreenShare,
      { tell: (each) => this.told.push(each), refused: (each) => this.refusals.push(each) },
      () => 0,
      () => 0.5,
    );
  }

  get connection(): FakeConnection {
    const last = FakeConnection.made.at(-1);
    if (last === undefined) throw new Error('no connection was made');
    return last;
  }

  async enter(): Promise<void> {
    this.room.enter('r');
    await settle();
  }

  types(): string[] {
    return this.asked.map((each) => each.type);
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

beforeEach(() => {
  vi.useFakeTimers();
  installBrowser();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it('joins with nothing on, then says and sends what there is', async () => {
  const world = new World();
  const track = new FakeTrack('audio') as unknown as MediaStreamTrack;
  world.audio.value = track;
  await world.enter();
  expect(world.asked).toEqual([
    { type: 'join_room', room: 'r', media: OFF, sdp: 'offer of 15' },
    { type: 'room_media', room: 'r', media: { ...OFF, microphone: 'on' } },
  ]);
  expect(world.connection.remote).toEqual(['answer']);
  expect(world.connection.transceivers[0]?.sender.track).toBe(track);
  world.muted.value = true;
  world.video.value = new FakeTrack('video') as unknown as MediaStreamTrack;
  await settle();
  expect(world.asked.at(-1)).toEqual({
    type: 'room_media',
    room: 'r',
    media: { microphone: 'muted', camera: 'on', screen: 'off' },
  });
  expect(world.connection.remote).toHaveLength(1);
});

it('says of a camera that it is off where the browser cannot send its pictures', async () => {
  installBrowser({ av1: false });
  const world = new World();
  world.audio.value = new FakeTrack('audio') as unknown as MediaStreamTrack;
  world.video.value = new FakeTrack('video') as unknown as MediaStreamTrack;
  await world.enter();
  expect(world.asked.at(-1)).toEqual({ type: 'room_media', room: 'r', media: { ...OFF, microphone: 'on' } });
});

it('rejoins on a fresh connection with what is on, and says its wishes again', async () => {
  const world = new World();
  await world.enter();
  world.connection.connect('connected');
  const wish = { room: 'r', show: [] };
  world.room.show(wish);
  const before = world.connection;
  world.room.event({ type: 'rejoin_room', room: 'r' });
  await settle();
  expect(before.connectionState).toBe('closed');
  expect(world.connection).not.toBe(before);
  expect(world.connection.remote).toEqual(['answer']);
  world.room.show(wish);
  expect(world.types()).toEqual(['join_room', 'subscribe', 'join_room', 'subscribe']);
});

it('a moderator’s mute mutes the microphone itself', async () => {
  const world = new World();
  world.audio.value = new FakeTrack('audio') as unknown as MediaStreamTrack;
  await world.enter();
  const [me] = SNAPSHOT.participants;
  if (me === undefined) throw new Error('nobody');
  const participant = { ...me, media: { ...OFF, microphone: 'muted' as const } };
  world.room.event({ type: 'participant_changed', room: 'r', participant });
  await settle();
  expect(world.muted.value).toBe(true);
  expect(world.told).toEqual([{ what: 'muted', kind: 'microphone' }]);
  expect(world.types()).toEqual(['join_room', 'room_media']);
});

it('leaving closes the connection and the devices', async () => {
  const world = new World();
  await world.enter();
  world.room.leave();
  expect(world.types().at(-1)).toBe('leave_room');
  expect(world.connection.connectionState).toBe('closed');
  expect(world.closed).toHaveBeenCalled();
  expect(world.screen.stop).toHaveBeenCalled();
});

it('a refusal is shown, and a refused act of moderation told', async () => {
  const world = new World();
  const body = { code: 'room_full' as const, message: 'full' };
  world.answer = () => new RequestError(body, false);
  await world.enter();
  expect(world.room.state.value).toMatchObject({ kind: 'out', ending: { reason: 'refused', error: body } });
  world.answer = new World().answer;
  world.room.dismiss();
  await world.enter();
  const refusal = new RequestError({ code: 'participant_unknown', message: 'who?' }, false);
  world.answer = () => refusal;
  world.room.moderate({ type: 'remove', participant: 9 });
  await settle();
  expect(world.refusals).toEqual([refusal]);
  world.room.moderate({ type: 'lock', locked: true });
  await settle();
  expect(world.room.state.value).toMatchObject({ membership: { state: { locked: false } } });
  world.answer = () => ({ type: 'ok' });
  world.room.moderate({ type: 'lock', locked: true });
  await settle();
  expect(world.room.state.value).toMatchObject({ membership: { state: { locked: true } } });
});

it('a wish that came too soon is said again later', async () => {
  const world = new World();
  await world.enter();
  const limited = { code: 'rate_limited' as const, message: 'slow', retry_after_ms: 700 };
  world.answer = () => new RequestError(limited, false);
  world.room.show({ room: 'r', show: [] });
  await settle();
  world.answer = () => ({ type: 'ok' });
  await vi.advanceTimersByTimeAsync(2_000);
  expect(world.types()).toEqual(['join_room', 'subscribe', 'subscribe']);
});

it('a new path is looked for by a further offer', async () => {
  const world = new World();
  const join = world.answer;
  world.answer = (request) => (request.type === 'room_offer' ? { type: 'room_answer', sdp: 'new' } : join(request));
  await world.enter();
  world.connection.connect('connected');
  world.room.networkChanged();
  await settle();
  expect(world.types()).toContain('room_offer');
  expect(world.connection.remote).toEqual(['answer', 'new']);
  expect(world.room.state.value).toMatchObject({ connection: { phase: 'connected' } });
});
