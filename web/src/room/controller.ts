// Carries out what the room's state machine decides: requests to the server, the connection to the forwarding unit, local
// media; and passes on what the screen shows.

import { batch, computed, effect, signal } from '@preact/signals';
import type { LocalMedia } from '../media/local';
import type { ScreenShare } from '../media/screen';
import { RequestError, type SignalingClient } from '../protocol/client';
import type {
  IceServer,
  Moderation,
  ParticipantId,
  Event as ProtocolEvent,
  Request,
  RoomId,
  RoomMedia,
  Subscribe,
  Welcome,
} from '../protocol/types';
import type { Abilities } from './codecs';
import { arrange } from './layout';
import { deadline, type Effect, type Input, idle, isIn, isMember, type RoomMachine, step } from './machine';
import type { Happening } from './membership';
import { type PictureSlot, RoomPeer } from './peer';
import { Wishes } from './wishes';

type Requests = Pick<SignalingClient, 'request'>;

/** What the current connection brings. */
export interface Remote {
  sound: readonly MediaStream[];
  pictures: readonly PictureSlot[];
  abilities: Abilities;
}

export interface RoomHandlers {
  tell(happening: Happening): void;
  /** The server refused something that the person asked for. */
  refused(error: RequestError): void;
}

/** Between two tries of a request that came too often. */
const RETRY_MS = 1_000;

export class RoomController {
  readonly state = signal<RoomMachine>(idle);
  readonly remote = signal<Remote | null>(null);
  /** People in the order in which they are shown. */
  readonly order = signal<readonly ParticipantId[]>([]);
  /** How many of them are in sight without paging. */
  readonly visible = signal(Number.POSITIVE_INFINITY);
  readonly media = computed<RoomMedia>(() => {
    const { audio, video, muted } = this.local;
    // Nobody shall wait for pictures that this browser cannot send.
    const sends = this.remote.value?.abilities.send !== null;
    return {
      microphone: audio.value === null ? 'off' : muted.value ? 'muted' : 'on',
      camera: sends && video.value !== null ? 'on' : 'off',
      screen: sends && this.screen.track.value !== null ? 'on' : 'off',
    };
  });
  #peer: { attempt: number; peer: RoomPeer } | null = null;
  #iceServers: IceServer[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;
  readonly #wishes = new Wishes((wish) => this.#send({ type: 'subscribe', ...wish }));

  constructor(
    private readonly client: Requests,
    private readonly local: LocalMedia,
    private readonly screen: ScreenShare,
    private readonly handlers: RoomHandlers,
    private readonly now: () => number = () => performance.now(),
    private readonly random: () => number = Math.random,
  ) {
    effect(() => {
      const tracks = this.#tracks();
      void this.#peer?.peer.setTracks(tracks);
    });
    effect(() => this.#input({ type: 'media', media: this.media.value }));
    effect(() => {
      const state = this.state.value;
      if (state.kind === 'inside') this.order.value = arrange(this.order.peek(), state.membership, this.visible.value);
      else this.order.value = [];
    });
  }

  enter(room: RoomId): void {
    this.#input({ type: 'enter', room, media: this.media.peek() });
  }

  leave(): void {
    this.#input({ type: 'leave' });
  }

  /** The server does not sign this device in again. */
  signedOut(message: string): void {
    this.#input({ type: 'signed_out', message });
  }

  dismiss(): void {
    this.#input({ type: 'dismiss' });
  }

  welcome(welcome: Welcome): void {
    this.#iceServers = welcome.ice_servers;
    this.#input({ type: 'welcome', rooms: welcome.rooms ?? [], resumed: welcome.resumed });
  }

  event(event: ProtocolEvent): void {
    this.#input({ type: 'event', event });
  }

  /** The network changed: look for a new path at once. */
  networkChanged(): void {
    this.#input({ type: 'network_changed' });
  }

  /** What is shown. */
  show(wish: Subscribe): void {
    const state = this.state.peek();
    if (isMember(state) && state.membership.grants.subscribe) this.#wishes.say(wish);
  }

  moderate(action: Moderation): void {
    const state = this.state.peek();
    if (isMember(state)) this.#send({ type: 'moderate', room: state.room, action });
  }

  /** Makes room for up to `pictures` at once. */
  async showMore(pictures: number): Promise<void> {
    const current = this.#peer;
    if (current === null) return;
    await current.peer.renegotiate((offer) => this.#further(offer), { pictures });
    if (this.#peer === current) this.#publishRemote(current.peer);
  }

  #input(input: Input): void {
    const before = this.state.peek();
    const { state, effects } = step(before, input, this.now(), this.random());
    batch(() => {
      this.state.value = state;
      for (const each of effects) this.#carryOut(each);
    });
    if (isIn(before) && !isIn(state)) this.#afterRoom();
    this.#schedule(state);
    if (isMember(state)) void this.#peer?.peer.setLimits(state.membership.state.limits);
  }

  #carryOut(todo: Effect): void {
    const current = this.#peer;
    const peer = current !== null && 'attempt' in todo && current.attempt === todo.attempt ? current.peer : null;
    switch (todo.do) {
      case 'send':
        this.#send(todo.request);
        break;
      case 'make_offer':
        void this.#makeOffer(todo.attempt);
        break;
      case 'apply_answer':
        peer?.applyAnswer(todo.sdp).catch((error: unknown) => this.#broken(todo.attempt, error));
        break;
      case 'restart':
        if (peer !== null) void this.#restart(todo.attempt, peer);
        break;
      case 'send_layers':
        void peer?.setWanted(todo.layers.kind, todo.layers);
        break;
      case 'read_slots':
        if (peer !== null) this.#readSlots(todo.attempt, peer);
        break;
      case 'mute':
        if (todo.kind === 'microphone') this.local.setMuted(true);
        else if (todo.kind === 'camera') void this.local.setCamera(false);
        else this.screen.stop();
        break;
      case 'tell':
        this.handlers.tell(todo.happening);
        break;
      case 'close':
        if (peer === null) break;
        peer.close();
        this.#peer = null;
        this.#wishes.forget();
        this.remote.value = null;
        break;
    }
  }

  async #makeOffer(attempt: number): Promise<void> {
    const peer = new RoomPeer(this.#iceServers, {
      link: (link) => this.#input({ type: 'link', attempt, link }),
    });
    this.#peer = { attempt, peer };
    try {
      const sdp = await peer.offer();
      if (this.#peer?.peer !== peer) return;
      this.#publishRemote(peer);
      void peer.setTracks(this.#tracks());
      this.#input({ type: 'offer_ready', attempt, sdp });
    } catch (error) {
      if (this.#peer?.peer === peer) this.#broken(attempt, error);
    }
  }

  async #restart(attempt: number, peer: RoomPeer): Promise<void> {
    try {
      await peer.renegotiate((offer) => this.#further(offer), { restart: true });
      if (peer.isConnected) this.#input({ type: 'link', attempt, link: 'connected' });
    } catch {
      // A new connection follows when the time for this one is over.
    }
  }

  async #further(sdp: string): Promise<string> {
    const state = this.state.peek();
    if (!isMember(state)) throw new Error('You are not in the room.');
    const result = await this.client.request({ type: 'room_offer', room: state.room, sdp });
    if (result.type !== 'room_answer') throw new Error('The server gave no answer.');
    return result.sdp;
  }

  #readSlots(attempt: number, peer: RoomPeer): void {
    const slots = peer.readSlots();
    // A browser that cannot say: what was known stays.
    if (slots.size > 0) queueMicrotask(() => this.#input({ type: 'slots_read', attempt, slots }));
    this.#wishes.repeat();
  }

  #send(request: Request): void {
    const { attempt } = this.state.peek();
    this.client.request(request).then(
      (result) => {
        if (result.type === 'room_joined')
          this.#input({ type: 'joined', attempt, sdp: result.sdp, snapshot: result.snapshot });
        if (request.type === 'moderate') this.#input({ type: 'moderated', attempt, action: request.action });
      },
      (error: unknown) => this.#failed(request, attempt, error),
    );
  }

  #failed(request: Request, attempt: number, error: unknown): void {
    if (request.type === 'join_room') {
      if (error instanceof RequestError) this.#input({ type: 'refused', attempt, error: error.body });
      else this.#broken(attempt, error);
      return;
    }
    if (!(error instanceof RequestError)) return;
    const state = this.state.peek();
    if (error.body.code === 'rate_limited' && isMember(state) && state.attempt === attempt) {
      const wait = error.body.retry_after_ms ?? RETRY_MS;
      if (request.type === 'subscribe') setTimeout(() => this.#wishes.repeat(), wait);
      if (request.type === 'room_media') setTimeout(() => this.#tellAgain(attempt), wait);
    }
    if (request.type === 'moderate') this.handlers.refused(error);
  }

  #tellAgain(attempt: number): void {
    const state = this.state.peek();
    if (isMember(state) && state.attempt === attempt) {
      this.#send({ type: 'room_media', room: state.room, media: state.told });
    }
  }

  #broken(attempt: number, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#input({ type: 'broken', attempt, message });
  }

  #publishRemote(peer: RoomPeer): void {
    this.remote.value = { sound: peer.sound, pictures: peer.pictures, abilities: peer.abilities };
  }

  #tracks() {
    return { microphone: this.local.audio.value, camera: this.local.video.value, screen: this.screen.track.value };
  }

  #schedule(state: RoomMachine): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const due = deadline(state);
    this.#timer = due === null ? null : setTimeout(() => this.#input({ type: 'tick' }), Math.max(0, due - this.now()));
  }

  #afterRoom(): void {
    this.local.close();
    this.screen.stop();
  }
}
