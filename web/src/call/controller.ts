// Carries out what the call state machine decides: requests to the server, connections to peers, local media.

import { batch, effect, signal } from '@preact/signals';
import type { LocalMedia } from '../media/local';
import { RequestError, type SignalingClient } from '../protocol/client';
import { randomId } from '../protocol/ids';
import type {
  CallId,
  Candidate,
  IceServer,
  MediaState,
  Event as ProtocolEvent,
  Request,
  Welcome,
} from '../protocol/types';
import { type CallState, deadline, type Effect, type Input, idle, isBusy, type Party, step } from './machine';
import { Peer } from './peer';
import { type Counters, read, type Sample } from './stats';

/** Seconds of figures kept for the plots. */
const KEPT_SAMPLES = 120;
const SAMPLE_EVERY_MS = 1_000;

type Requests = Pick<SignalingClient, 'request'>;

export class CallController {
  readonly state = signal<CallState>(idle);
  /** What the other side sends, from the moment it is known. */
  readonly remote = signal<MediaStream | null>(null);
  readonly samples = signal<readonly Sample[]>([]);
  readonly #peers = new Map<CallId, Peer>();
  /** Own candidates of calls whose invitation or answer was not sent yet. */
  readonly #heldBack = new Map<CallId, Candidate[]>();
  #iceServers: IceServer[] = [];
  #camera = false;
  #told: MediaState | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #sampler: ReturnType<typeof setInterval> | null = null;
  #counters: Counters | null = null;

  constructor(
    private readonly client: Requests,
    private readonly media: LocalMedia,
    private readonly now: () => number = () => performance.now(),
  ) {
    effect(() => {
      const tracks = { audio: media.audio.value, video: media.video.value };
      for (const peer of this.#peers.values()) peer.setTracks(tracks).catch(() => {});
    });
    effect(() => this.#tellMedia(this.state.value, media.state.value));
  }

  dial(peer: Party, camera: boolean): void {
    if (isBusy(this.state.value)) return;
    this.#camera = camera;
    this.#input({ type: 'dial', call: randomId(), peer });
  }

  answer(camera: boolean): void {
    this.#camera = camera;
    this.#input({ type: 'answer' });
  }

  decline(): void {
    this.#input({ type: 'decline' });
  }

  hangUp(): void {
    this.#input({ type: 'hang_up' });
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
    const { calls, resumed } = welcome;
    this.#input({ type: 'welcome', calls, resumed, media: this.media.state.value });
  }

  event(event: ProtocolEvent): void {
    this.#input({ type: 'event', event });
  }

  /** The network changed: look for a new path at once. */
  networkChanged(): void {
    const state = this.state.value;
    if (state.kind === 'active') this.#peers.get(state.call)?.restart();
  }

  #input(input: Input): void {
    const before = this.state.value;
    const { state, effects } = step(before, input, this.now());
    batch(() => {
      this.state.value = state;
      for (const each of effects) this.#carryOut(each);
    });
    if (isBusy(before) && !isBusy(state)) this.#afterCall();
    this.#schedule(state);
  }

  #carryOut(todo: Effect): void {
    switch (todo.do) {
      case 'send':
        this.#send(todo.request);
        break;
      case 'make_offer':
        void this.#makeOffer(todo.call);
        break;
      case 'prepare_answer':
        this.#newPeer(todo.call, 'callee')
          .prepare(todo.sdp)
          .catch(() => {});
        break;
      case 'make_answer':
        void this.#makeAnswer(todo.call);
        break;
      case 'apply_description':
        this.#peers
          .get(todo.call)
          ?.applyDescription(todo.kind, todo.sdp)
          .catch((error: unknown) => this.#broken(todo.call, error));
        break;
      case 'add_candidate':
        this.#peers.get(todo.call)?.addCandidate(todo.candidate);
        break;
      case 'close':
        this.#peers.get(todo.call)?.close();
        this.#peers.delete(todo.call);
        this.#heldBack.delete(todo.call);
        break;
    }
  }

  async #makeOffer(call: CallId): Promise<void> {
    await this.media.open(this.#camera);
    if (!this.#isCurrent(call)) return;
    const peer = this.#newPeer(call, 'caller');
    try {
      await peer.setTracks(this.#tracks());
      const sdp = await peer.offer();
      this.#input({ type: 'offer_ready', call, sdp, media: this.#announced() });
      this.#releaseCandidates(call);
    } catch (error) {
      this.#broken(call, error);
    }
  }

  async #makeAnswer(call: CallId): Promise<void> {
    const peer = this.#peers.get(call);
    if (peer === undefined) return;
    // The answer does not wait for the devices: their tracks join when they are open.
    const opening = this.media.audio.value === null ? this.media.open(this.#camera) : Promise.resolve();
    try {
      await peer.setTracks(this.#tracks());
      const sdp = await peer.answer();
      this.remote.value = peer.remote;
      this.#told = { audio_muted: false, video: this.#camera ? 'camera' : 'off' };
      this.#input({ type: 'answer_ready', call, sdp, media: this.#told });
      this.#releaseCandidates(call);
      await opening;
      // Now it is known what there is.
      this.#tellMedia(this.state.value, this.media.state.value);
    } catch (error) {
      this.#broken(call, error);
    }
  }

  #newPeer(call: CallId, role: 'caller' | 'callee'): Peer {
    this.#heldBack.set(call, []);
    const peer = new Peer(role, this.#iceServers, {
      candidate: (candidate) => {
        const held = this.#heldBack.get(call);
        if (held !== undefined) held.push(candidate);
        else this.#send({ type: 'candidate', call, candidate });
      },
      description: (kind, sdp) => this.#send({ type: 'description', call, kind, sdp }),
      link: (link) => {
        this.#input({ type: 'link', call, link });
        if (link === 'connected') this.#startSampling(call);
      },
    });
    this.#peers.set(call, peer);
    if (role === 'caller') this.remote.value = peer.remote;
    return peer;
  }

  #releaseCandidates(call: CallId): void {
    const held = this.#heldBack.get(call) ?? [];
    this.#heldBack.delete(call);
    if (!this.#isCurrent(call)) return;
    for (const candidate of held) this.#send({ type: 'candidate', call, candidate });
  }

  #send(request: Request): void {
    this.client.request(request).then(
      () => {
        if (request.type === 'invite') this.#input({ type: 'invited', call: request.call });
      },
      (error: unknown) => {
        // For other requests the state of the call tells, through events.
        if (request.type !== 'invite' && request.type !== 'answer') return;
        if (!(error instanceof RequestError)) return this.#broken(request.call, error);
        const alreadySo = error.body.code === 'call_exists' || error.body.code === 'call_state';
        if (error.repeated && alreadySo) {
          if (request.type === 'invite') this.#input({ type: 'invited', call: request.call });
          return;
        }
        this.#input({ type: 'refused', call: request.call, error: error.body });
      },
    );
  }

  #broken(call: CallId, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#input({ type: 'broken', call, message });
  }

  /** Tells the other side what is muted, once there is another side. */
  #tellMedia(state: CallState, media: MediaState): void {
    if (state.kind !== 'active' || this.#told === null) return;
    const opening = this.media.cameraWanted.value && this.media.video.value === null;
    if (opening && this.#told.video === 'camera' && this.media.problems.value.camera === null) return;
    if (this.media.audio.value === null && this.media.problems.value.microphone === null) return;
    if (media.audio_muted === this.#told.audio_muted && media.video === this.#told.video) return;
    this.#told = media;
    this.#send({ type: 'media_state', call: state.call, media });
  }

  #announced(): MediaState {
    this.#told = this.media.state.value;
    return this.#told;
  }

  #tracks() {
    return { audio: this.media.audio.value, video: this.media.video.value };
  }

  #isCurrent(call: CallId): boolean {
    const state = this.state.value;
    return isBusy(state) && state.call === call;
  }

  #schedule(state: CallState): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const due = deadline(state);
    this.#timer = due === null ? null : setTimeout(() => this.#input({ type: 'tick' }), Math.max(0, due - this.now()));
  }

  #startSampling(call: CallId): void {
    if (this.#sampler !== null) return;
    this.#sampler = setInterval(() => void this.#sample(call), SAMPLE_EVERY_MS);
  }

  async #sample(call: CallId): Promise<void> {
    const report = await this.#peers.get(call)?.stats();
    if (!report || !this.#isCurrent(call)) return;
    const { sample, counters } = read(report.values(), this.now(), this.#counters);
    this.#counters = counters;
    this.samples.value = [...this.samples.value.slice(1 - KEPT_SAMPLES), sample];
  }

  #afterCall(): void {
    if (this.#sampler !== null) clearInterval(this.#sampler);
    this.#sampler = null;
    this.#counters = null;
    this.#told = null;
    this.media.close();
    batch(() => {
      this.samples.value = [];
      this.remote.value = null;
    });
  }
}
