// The page's state: who is signed in, who is there, which call runs. Components read its signals and call its methods.

import { computed, effect, signal } from '@preact/signals';
import { CallController } from './call/controller';
import { isBusy } from './call/machine';
import { LocalMedia } from './media/local';
import { describe, type Problem } from './media/problems';
import { Ringer } from './media/ringer';
import { ScreenShare } from './media/screen';
import { type ConnectionStatus, SignalingClient } from './protocol/client';
import { nameToUserId, randomId, userIdProblem } from './protocol/ids';
import type { Credential, Presence, Event as ProtocolEvent, RoomId, Welcome } from './protocol/types';
import { RoomController } from './room/controller';
import { fragmentOf, roomFromFragment, tokenFromFragment } from './room/invite';
import { isIn } from './room/machine';
import type { Happening } from './room/membership';
import { endingWords, happeningWords, roomEndingWords, spoken } from './words';

const STORED_NAME = 'halloo.name';
const DEVICE = 'halloo.device';
const STAY = 'halloo.signed-in';

export interface Me {
  user: string;
  name: string;
}

export interface Notice {
  id: number;
  text: string;
  tone: 'plain' | 'warning';
}

export class App {
  readonly connection = signal<ConnectionStatus>({ kind: 'signed_out', why: null });
  readonly me = signal<Me | null>(null);
  readonly people = signal<ReadonlyMap<string, Presence>>(new Map());
  readonly notices = signal<readonly Notice[]>([]);
  /** For screen readers: what just happened. */
  readonly announcement = signal('');
  readonly media = new LocalMedia();
  readonly screen = new ScreenShare();
  readonly calls: CallController;
  readonly room: RoomController;
  /** The room in front of which one stands, by an invitation or by having typed its name. */
  readonly door = signal<RoomId | null>(roomFromFragment(location.hash));
  readonly others = computed(() =>
    [...this.people.value.values()]
      .filter((each) => each.online && each.user !== this.me.value?.user)
      .sort((a, b) => a.display_name.localeCompare(b.display_name)),
  );
  readonly #client: SignalingClient;
  readonly #ringer = new Ringer();
  #nextNotice = 1;
  #token: string | null = null;

  constructor() {
    const url = new URL('ws', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.hash = '';
    url.search = '';
    this.#client = new SignalingClient(
      url.href,
      deviceId(),
      { name: 'halloo-web', version: __VERSION__ },
      {
        status: (status) => this.#status(status),
        welcome: (welcome) => this.#welcome(welcome),
        event: (event) => this.#event(event),
        inMeeting: () => isBusy(this.calls.state.peek()) || isIn(this.room.state.peek()),
      },
    );
    this.calls = new CallController(this.#client, this.media);
    this.room = new RoomController(this.#client, this.media, this.screen, {
      tell: (happening) => this.#tell(happening),
      refused: (error) => this.notify(error.message, 'warning'),
    });
    this.#token = takeToken();
    this.#watch();
    const remembered = sessionStorage.getItem(STAY);
    if (this.#token !== null) this.#signIn({ type: 'token', token: this.#token });
    else if (remembered !== null) this.#signIn({ type: 'guest', name: remembered });
  }

  /** The name used the last time. */
  get lastName(): string {
    return localStorage.getItem(STORED_NAME) ?? '';
  }

  /** Signs in as a guest; returns what is wrong with the name, in words. */
  signInAs(typed: string): string | null {
    const name = nameToUserId(typed);
    const problem = userIdProblem(name);
    if (problem !== null) return problem;
    localStorage.setItem(STORED_NAME, typed.trim());
    sessionStorage.setItem(STAY, name);
    this.#signIn({ type: 'guest', name });
    return null;
  }

  /** Goes to the door of a room; returns what is wrong with its name, in words. */
  openDoor(typed: string): string | null {
    const room = nameToUserId(typed);
    const problem = userIdProblem(room);
    if (problem !== null) return problem;
    location.hash = fragmentOf(room);
    this.door.value = room;
    return null;
  }

  /** Goes back to the people, out of a room or from its door. */
  leaveRoom(): void {
    if (isIn(this.room.state.peek())) this.announcement.value = 'You left the room.';
    this.room.leave();
    this.room.dismiss();
    this.door.value = null;
    history.replaceState(null, '', location.pathname + location.search);
  }

  signOut(): void {
    this.calls.hangUp();
    this.leaveRoom();
    this.#client.signOut();
  }

  notify(text: string, tone: Notice['tone'] = 'plain'): void {
    const notice: Notice = { id: this.#nextNotice++, text, tone };
    this.notices.value = [...this.notices.peek().slice(-2), notice];
    setTimeout(() => this.dismissNotice(notice.id), tone === 'plain' ? 4_000 : 12_000);
  }

  dismissNotice(id: number): void {
    this.notices.value = this.notices.peek().filter((each) => each.id !== id);
  }

  #signIn(credential: Credential): void {
    this.connection.value = { kind: 'connecting' };
    this.#client.signIn(credential);
  }

  #status(status: ConnectionStatus): void {
    this.connection.value = status;
    if (status.kind !== 'signed_out') return;
    sessionStorage.removeItem(STAY);
    this.me.value = null;
    this.people.value = new Map();
    if (status.why === null) {
      this.calls.hangUp();
      this.calls.dismiss();
      this.room.leave();
      return;
    }
    // Where a meeting ran, the screen to sign in comes in its place without a word about it.
    this.calls.signedOut(status.why);
    this.room.signedOut(status.why);
    const [call, room] = [this.calls.state.peek(), this.room.state.peek()];
    if (call.kind === 'ended' && call.ending.reason === 'signed_out')
      this.notify(endingWords(call).headline, 'warning');
    if (room.kind === 'out' && room.ending.reason === 'signed_out') {
      this.notify(roomEndingWords(room).headline, 'warning');
    }
  }

  #welcome(welcome: Welcome): void {
    this.me.value = { user: welcome.user, name: welcome.display_name };
    this.calls.welcome(welcome);
    this.room.welcome(welcome);
    this.#client.request({ type: 'watch_presence' }).then(
      (result) => {
        if (result.type === 'presence') this.people.value = new Map(result.users.map((each) => [each.user, each]));
      },
      () => {},
    );
  }

  #event(event: ProtocolEvent): void {
    if (event.type === 'presence') {
      const people = new Map(this.people.value);
      people.set(event.user, event);
      this.people.value = people;
      return;
    }
    if (event.type === 'incoming_call' && isIn(this.room.state.peek())) {
      this.#client.request({ type: 'busy', call: event.call }).catch(() => {});
      this.notify(`${event.from_name} called you.`);
      return;
    }
    this.calls.event(event);
    this.room.event(event);
  }

  #tell(happening: Happening): void {
    const { text, tone } = happeningWords(happening);
    if (tone === null) this.announcement.value = text;
    else this.notify(text, tone);
  }

  #watch(): void {
    let before = this.calls.state.value;
    effect(() => {
      const state = this.calls.state.value;
      const changed = state.kind !== before.kind;
      before = state;
      this.#ringer.play(ringFor(state));
      if (!changed) return;
      if (state.kind === 'incoming') {
        this.announcement.value = `${state.peer.name} is calling. Press A to answer, D to decline.`;
        this.#notifyInBackground(state.peer.name);
      } else if (state.kind === 'outgoing') {
        this.announcement.value = `Calling ${state.peer.name}.`;
      } else if (state.kind === 'active') {
        this.announcement.value = `In a call with ${state.peer.name}.`;
      } else if (state.kind === 'ended') {
        const { headline } = endingWords(state);
        const lasted = state.durationMs > 0 ? `, ${spoken(state.durationMs)}` : '';
        this.announcement.value = `${headline}${lasted}.`;
        if (state.ending.reason !== 'broken' && state.ending.by === 'me') {
          this.notify(`${headline}${lasted}`);
          queueMicrotask(() => this.calls.dismiss());
        }
      }
    });
    let kind = this.room.state.value.kind;
    effect(() => {
      const state = this.room.state.value;
      if (state.kind === kind) return;
      kind = state.kind;
      if (state.kind === 'inside') {
        const others = state.membership.participants.length - 1;
        const who =
          others === 0 ? 'nobody else is here yet' : others === 1 ? 'one other is here' : `${others} others are here`;
        this.announcement.value = `You are in the room ${state.room}: ${who}.`;
      } else if (state.kind === 'out') {
        this.announcement.value = `${roomEndingWords(state).headline}.`;
      }
    });
    const said = { microphone: null as Problem | null, camera: null as Problem | null };
    effect(() => {
      const problems = this.media.problems.value;
      for (const device of ['microphone', 'camera'] as const) {
        const problem = problems[device];
        if (problem !== null && problem !== said[device]) this.notify(describe(problem), 'warning');
        said[device] = problem;
      }
    });
    this.#flashTitle();
    window.addEventListener('online', () => {
      this.#client.retryNow();
      this.calls.networkChanged();
      this.room.networkChanged();
    });
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#client.retryNow();
    });
    window.addEventListener('beforeunload', (event) => {
      if (this.calls.state.value.kind === 'active' || isIn(this.room.state.value)) event.preventDefault();
    });
    window.addEventListener('pagehide', (event) => {
      if (event.persisted) return;
      if (isBusy(this.calls.state.value)) this.calls.hangUp();
      this.room.leave();
    });
    window.addEventListener('hashchange', () => {
      const room = roomFromFragment(location.hash);
      const token = takeToken();
      const state = this.room.state.peek();
      if (isIn(state) && state.room !== room) this.room.leave();
      this.door.value = room;
      if (token !== null) this.#signIn({ type: 'token', token });
    });
  }

  #flashTitle(): void {
    const title = document.title;
    let timer: ReturnType<typeof setInterval> | null = null;
    effect(() => {
      const state = this.calls.state.value;
      if (timer !== null) clearInterval(timer);
      timer = null;
      const room = this.room.state.value;
      if (state.kind === 'active') document.title = `${state.peer.name} · ${title}`;
      else if (isIn(room)) document.title = `${room.room} · ${title}`;
      else document.title = title;
      if (state.kind !== 'incoming') return;
      const flash = `${state.peer.name} is calling…`;
      document.title = flash;
      timer = setInterval(() => {
        document.title = document.title === flash ? title : flash;
      }, 1_000);
    });
  }

  #notifyInBackground(name: string): void {
    if (!('Notification' in window) || Notification.permission !== 'granted' || !document.hidden) return;
    const notification = new Notification(`${name} is calling`, { body: 'Open Halloo to answer.', tag: 'halloo-call' });
    notification.onclick = () => {
      window.focus();
      notification.close();
    };
    const stop = this.calls.state.subscribe((state) => {
      if (state.kind === 'incoming') return;
      notification.close();
      queueMicrotask(() => stop());
    });
  }
}

function ringFor(state: CallController['state']['value']): 'incoming' | 'outgoing' | null {
  if (state.kind === 'incoming' && state.phase === 'ringing') return 'incoming';
  if (state.kind === 'outgoing' && state.phase === 'ringing') return 'outgoing';
  return null;
}

/** Each tab is a device of its own: two tabs of one browser may talk to each other. */
function deviceId(): string {
  const kept = sessionStorage.getItem(DEVICE);
  if (kept !== null) return kept;
  const fresh = `web-${randomId()}`;
  sessionStorage.setItem(DEVICE, fresh);
  return fresh;
}

/** The token of an invitation: it is also taken out of the address bar. */
function takeToken(): string | null {
  const token = tokenFromFragment(location.hash);
  if (token === null) return null;
  const room = roomFromFragment(location.hash);
  history.replaceState(null, '', location.pathname + location.search + (room === null ? '' : fragmentOf(room)));
  return token;
}
