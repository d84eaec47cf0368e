import { describe, expect, it } from 'vitest';
import type { Moderation, Participant, Event as ProtocolEvent, RoomMedia, RoomSnapshot } from '../protocol/types';
import { deadline, type Effect, type Input, type Inside, idle, type RoomMachine, step } from './machine';
import { NOTHING_SENT } from './membership';

const TALKING: RoomMedia = { microphone: 'on', camera: 'on', screen: 'off' };

function person(participant: number, name: string, more: Partial<Participant> = {}): Participant {
  return {
    participant,
    user: name,
    device: `d-${name}`,
    display_name: name,
    role: 'participant',
    media: NOTHING_SENT,
    reach: 'back',
    ...more,
  };
}

function snapshot(more: Partial<RoomSnapshot> = {}): RoomSnapshot {
  return {
    room: 'r',
    you: 3,
    grants: { publish: ['microphone', 'camera', 'screen'], subscribe: true, moderate: false },
    state: { locked: false, limits: { max_height: 720, max_participants: 50, max_publish_kbps: 3_000 } },
    participants: [person(1, 'ann'), person(3, 'me')],
    ...more,
  };
}

/** A machine with its effects gathered. */
class Stay {
  state: RoomMachine = idle;
  now = 0;
  effects: Effect[] = [];

  input(...inputs: Input[]): Effect[] {
    this.effects = [];
    for (const each of inputs) {
      const { state, effects } = step(this.state, each, this.now, 0.5);
      this.state = state;
      this.effects.push(...effects);
    }
    return this.effects;
  }

  event(event: ProtocolEvent): Effect[] {
    return this.input({ type: 'event', event });
  }

  /** Lets time pass until the next `tick` is due. */
  wait(): Effect[] {
    const due = deadline(this.state);
    if (due === null) throw new Error('nothing is due');
    this.now = due;
    return this.input({ type: 'tick' });
  }

  get inside(): Inside {
    if (this.state.kind !== 'inside') throw new Error(`${this.state.kind}, not inside`);
    return this.state;
  }
}

function requests(effects: Effect[]) {
  return effects.flatMap((each) => (each.do === 'send' ? [each.request] : []));
}

function kinds(effects: Effect[]): string[] {
  return effects.map((each) => (each.do === 'send' ? each.request.type : each.do));
}

function entered(more: Partial<RoomSnapshot> = {}, media = TALKING): Stay {
  const stay = new Stay();
  stay.input({ type: 'enter', room: 'r', media });
  stay.input({ type: 'offer_ready', attempt: 1, sdp: 'offer' });
  stay.input({ type: 'joined', attempt: 1, sdp: 'answer', snapshot: snapshot(more) });
  return stay;
}

function connected(more: Partial<RoomSnapshot> = {}): Stay {
  const stay = entered(more);
  stay.input({ type: 'link', attempt: 1, link: 'connected' });
  return stay;
}

describe('entering', () => {
  it('offers, asks, applies the answer, and only then says what is sent', () => {
    const stay = new Stay();
    expect(stay.input({ type: 'enter', room: 'r', media: TALKING })).toEqual([{ do: 'make_offer', attempt: 1 }]);
    expect(stay.input({ type: 'offer_ready', attempt: 1, sdp: 'offer' })).toEqual([
      { do: 'send', request: { type: 'join_room', room: 'r', media: NOTHING_SENT, sdp: 'offer' } },
    ]);
    expect(stay.input({ type: 'joined', attempt: 1, sdp: 'answer', snapshot: snapshot() })).toEqual([
      { do: 'apply_answer', attempt: 1, sdp: 'answer' },
      { do: 'send', request: { type: 'room_media', room: 'r', media: TALKING } },
    ]);
    expect(stay.inside.connection.phase).toBe('connecting');
    stay.input({ type: 'link', attempt: 1, link: 'connected' });
    expect(stay.inside.connection.phase).toBe('connected');
    expect(deadline(stay.state)).toBeNull();
  });

  it('publishes no source that the token does not grant', () => {
    const grants = { publish: ['microphone' as const], subscribe: true, moderate: false };
    const stay = entered({ grants });
    expect(requests(stay.effects)).toContainEqual({
      type: 'room_media',
      room: 'r',
      media: { microphone: 'on', camera: 'off', screen: 'off' },
    });
    expect(stay.inside.membership.participants[1]?.media.camera).toBe('off');
  });

  it('ends in the refusal, and the connection is closed', () => {
    const stay = new Stay();
    stay.input({ type: 'enter', room: 'r', media: TALKING }, { type: 'offer_ready', attempt: 1, sdp: 'o' });
    const error = { code: 'room_locked' as const, message: 'locked' };
    expect(stay.input({ type: 'refused', attempt: 1, error })).toEqual([{ do: 'close', attempt: 1 }]);
    expect(stay.state).toMatchObject({ kind: 'out', ending: { reason: 'refused', error } });
  });

  it('given up before the answer leaves on the server too, and the late answer changes nothing', () => {
    const stay = new Stay();
    stay.input({ type: 'enter', room: 'r', media: TALKING }, { type: 'offer_ready', attempt: 1, sdp: 'o' });
    expect(kinds(stay.input({ type: 'leave' }))).toEqual(['leave_room', 'close']);
    expect(stay.input({ type: 'joined', attempt: 1, sdp: 'a', snapshot: snapshot() })).toEqual([]);
    expect(stay.state.kind).toBe('idle');
  });

  it('numbers connections on, so that an old one is never taken for a new one', () => {
    const stay = connected();
    stay.input({ type: 'leave' });
    expect(stay.input({ type: 'enter', room: 'q', media: TALKING })).toEqual([{ do: 'make_offer', attempt: 2 }]);
    expect(stay.input({ type: 'offer_ready', attempt: 1, sdp: 'old' })).toEqual([]);
  });
});

describe('inside', () => {
  it('keeps the list by changes', () => {
    const stay = connected();
    stay.event({ type: 'participant_joined', room: 'r', participant: person(4, 'bob') });
    stay.event({ type: 'participant_changed', room: 'r', participant: person(1, 'ann', { media: TALKING }) });
    stay.event({ type: 'dominant_speaker', room: 'r', participant: 1 });
    stay.event({ type: 'dominant_speaker', room: 'r', participant: 4 });
    stay.event({ type: 'slots_changed', room: 'r', slots: [{ mid: '6', source: { participant: 1, kind: 'camera' } }] });
    const { membership } = stay.inside;
    expect(membership.participants.map((each) => each.display_name)).toEqual(['ann', 'me', 'bob']);
    expect(membership.participants[0]?.media.camera).toBe('on');
    expect(membership.spoke).toEqual([4, 1]);
    stay.event({ type: 'participant_left', room: 'r', participant: 1, reason: 'left' });
    expect(stay.inside.membership.slots.size).toBe(0);
    expect(stay.inside.membership.spoke).toEqual([4]);
  });

  it('does not listen to what happens in other rooms', () => {
    const stay = connected();
    const before = stay.state;
    stay.event({ type: 'participant_joined', room: 'other', participant: person(9, 'x') });
    stay.event({ type: 'rejoin_room', room: 'other' });
    expect(stay.state).toBe(before);
  });

  it('mutes itself when a moderator did, and does not unmute by what it was told before', () => {
    const stay = connected();
    const muted: RoomMedia = { ...TALKING, microphone: 'muted' };
    const effects = stay.event({
      type: 'participant_changed',
      room: 'r',
      participant: person(3, 'me', { media: muted }),
    });
    expect(effects).toEqual([
      { do: 'mute', kind: 'microphone' },
      { do: 'tell', happening: { what: 'muted', kind: 'microphone' } },
    ]);
    expect(stay.input({ type: 'media', media: muted })).toEqual([]);
    expect(requests(stay.input({ type: 'media', media: TALKING }))).toEqual([
      { type: 'room_media', room: 'r', media: TALKING },
    ]);
  });

  it('takes its own acts of moderation as done once the server says so, which tells nobody of their own doing', () => {
    const speaking: RoomMedia = { microphone: 'on', camera: 'on', screen: 'off' };
    const stay = connected({ participants: [person(1, 'ann', { media: speaking }), person(3, 'me')] });
    const ann = () => stay.inside.membership.participants.find((each) => each.participant === 1);
    const done = (action: Moderation) => stay.input({ type: 'moderated', attempt: 1, action });
    done({ type: 'mute', source: { participant: 1, kind: 'microphone' } });
    expect(ann()?.media).toEqual({ ...speaking, microphone: 'muted' });
    done({ type: 'mute', source: { participant: 1, kind: 'screen' } });
    expect(ann()?.media.screen).toBe('off');
    done({ type: 'set_role', participant: 1, role: 'moderator' });
    expect(ann()?.role).toBe('moderator');
    done({ type: 'lock', locked: true });
    expect(stay.inside.membership.state.locked).toBe(true);
    expect(done({ type: 'remove', participant: 1 })).toEqual([
      { do: 'tell', happening: { what: 'left', name: 'ann', reason: 'removed' } },
    ]);
    expect(ann()).toBeUndefined();
  });

  it('passes on which layers somebody receives', () => {
    const stay = connected();
    const layers = { type: 'layers_wanted' as const, room: 'r', kind: 'camera' as const, encodings: 1, spatial: 2 };
    expect(stay.event(layers)).toEqual([{ do: 'send_layers', attempt: 1, layers }]);
  });

  it('is out when removed', () => {
    const stay = connected();
    expect(kinds(stay.event({ type: 'room_left', room: 'r', reason: 'removed' }))).toEqual(['close']);
    expect(stay.state).toMatchObject({ kind: 'out', ending: { reason: 'removed' } });
  });
});

describe('when connections break', () => {
  it('rejoins at once the first time, then with pauses, and stops in the end', () => {
    const stay = connected();
    expect(stay.event({ type: 'rejoin_room', room: 'r' })).toEqual([
      { do: 'close', attempt: 1 },
      { do: 'make_offer', attempt: 2 },
    ]);
    const offer = stay.input({ type: 'offer_ready', attempt: 2, sdp: 'o2' });
    expect(requests(offer)).toEqual([{ type: 'join_room', room: 'r', media: TALKING, sdp: 'o2' }]);
    stay.input({
      type: 'joined',
      attempt: 2,
      sdp: 'a2',
      snapshot: snapshot({ you: 7, participants: [person(7, 'me')] }),
    });
    expect(stay.event({ type: 'rejoin_room', room: 'r' })).toEqual([{ do: 'close', attempt: 2 }]);
    expect(stay.inside.connection.phase).toBe('waiting');
    expect(deadline(stay.state)).toBeGreaterThan(stay.now);
    let tries = 0;
    while (stay.state.kind === 'inside' && tries < 50) {
      tries += 1;
      if (stay.inside.connection.phase === 'waiting') expect(kinds(stay.wait())).toContain('make_offer');
      const { attempt } = stay.inside;
      stay.input({ type: 'offer_ready', attempt, sdp: 'o' });
      stay.input({ type: 'refused', attempt, error: { code: 'media_unavailable', message: 'none' } });
    }
    expect(stay.state).toMatchObject({ kind: 'out', ending: { reason: 'refused' } });
    expect(tries).toBeGreaterThan(5);
    expect(tries).toBeLessThan(15);
  });

  it('a room that does not let one back in ends at once', () => {
    const stay = connected();
    stay.event({ type: 'rejoin_room', room: 'r' });
    stay.input({ type: 'offer_ready', attempt: 2, sdp: 'o' });
    stay.input({ type: 'refused', attempt: 2, error: { code: 'room_locked', message: 'locked' } });
    expect(stay.state).toMatchObject({ kind: 'out', ending: { reason: 'refused' } });
  });

  it('an interruption that does not heal makes it look for a new path, then for a new connection', () => {
    const stay = connected();
    expect(stay.input({ type: 'link', attempt: 1, link: 'interrupted' })).toEqual([]);
    expect(stay.wait()).toEqual([{ do: 'restart', attempt: 1 }]);
    expect(stay.wait()).toEqual([
      { do: 'close', attempt: 1 },
      { do: 'make_offer', attempt: 2 },
    ]);
    expect(stay.inside.membership.participants).toHaveLength(2);
  });

  it('an interruption that heals by itself costs nothing', () => {
    const stay = connected();
    stay.input({ type: 'link', attempt: 1, link: 'interrupted' });
    expect(stay.input({ type: 'link', attempt: 1, link: 'connected' })).toEqual([]);
    expect(deadline(stay.state)).toBeNull();
  });

  it('a connection that never comes about is tried again', () => {
    const stay = entered();
    expect(kinds(stay.wait())).toEqual(['close', 'make_offer']);
  });

  it('a resumed session changes nothing', () => {
    const stay = connected();
    const before = stay.state;
    expect(stay.input({ type: 'welcome', rooms: [], resumed: true })).toEqual([]);
    expect(stay.state).toBe(before);
  });

  it('a new session goes on from the snapshot, tells what changed meanwhile, and finds out about its slots', () => {
    const stay = connected();
    const rooms = [snapshot({ participants: [person(3, 'me'), person(5, 'eve')] }), snapshot({ room: 'stray' })];
    const effects = stay.input({ type: 'welcome', rooms, resumed: false });
    expect(effects).toEqual([
      { do: 'send', request: { type: 'leave_room', room: 'stray' } },
      { do: 'read_slots', attempt: 1 },
      { do: 'send', request: { type: 'room_media', room: 'r', media: TALKING } },
    ]);
    expect(stay.inside.membership.participants.map((each) => each.display_name)).toEqual(['me', 'eve']);
    expect(stay.inside.connection.phase).toBe('connected');
  });

  it('a restarted server is asked to let one in again', () => {
    const stay = connected();
    expect(kinds(stay.input({ type: 'welcome', rooms: [], resumed: false }))).toEqual(['close', 'make_offer']);
    // On the way there already: the client asks again by itself.
    expect(stay.input({ type: 'welcome', rooms: [], resumed: false })).toEqual([]);
  });

  it('pauses for two seconds at most, and for no longer than the server is away', () => {
    const stay = connected();
    stay.event({ type: 'rejoin_room', room: 'r' });
    for (let turn = 0; turn < 10; turn++) {
      const { attempt } = stay.inside;
      const error = { code: 'internal' as const, message: '' };
      stay.input({ type: 'offer_ready', attempt, sdp: 'o' }, { type: 'refused', attempt, error });
      const { connection } = stay.inside;
      if (connection.phase !== 'waiting') throw new Error(connection.phase);
      expect(connection.until - stay.now).toBeLessThanOrEqual(2_000);
      stay.wait();
    }
    const { attempt } = stay.inside;
    stay.input({ type: 'offer_ready', attempt, sdp: 'o' });
    stay.input({ type: 'refused', attempt, error: { code: 'internal', message: '' } });
    const effects = stay.input({ type: 'welcome', rooms: [], resumed: false });
    expect(effects).toContainEqual({ do: 'make_offer', attempt: attempt + 1 });
  });

  it('is over where the server does not sign this device in again', () => {
    const stay = connected();
    expect(kinds(stay.input({ type: 'signed_out', message: 'The token has expired.' }))).toEqual(['close']);
    expect(stay.state).toMatchObject({ kind: 'out', ending: { reason: 'signed_out' } });
  });

  it('closes every connection that it makes, whatever happens', () => {
    const inputs: Input[] = [
      { type: 'enter', room: 'r', media: TALKING },
      { type: 'leave' },
      { type: 'dismiss' },
      { type: 'network_changed' },
      { type: 'signed_out', message: 'x' },
      { type: 'welcome', rooms: [], resumed: false },
      { type: 'event', event: { type: 'rejoin_room', room: 'r' } },
      { type: 'event', event: { type: 'room_left', room: 'r', reason: 'closed' } },
    ];
    let seed = 1;
    const random = () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    const wrong: string[] = [];
    for (let run = 0; run < 300; run++) {
      const stay = new Stay();
      const open = new Set<number>();
      const take = (effects: Effect[]) => {
        for (const each of effects) {
          if (each.do === 'make_offer') open.add(each.attempt);
          else if (each.do === 'close') open.delete(each.attempt);
          else if ('attempt' in each && !open.has(each.attempt)) wrong.push(`run ${run}: ${each.do} of none`);
        }
        if (open.size > 1) wrong.push(`run ${run}: two at a time`);
      };
      for (let turn = 0; turn < 40; turn++) {
        const { attempt } = stay.state;
        const about: Input[] = [
          { type: 'offer_ready', attempt, sdp: 'o' },
          { type: 'joined', attempt, sdp: 'a', snapshot: snapshot() },
          { type: 'refused', attempt, error: { code: random() < 0.5 ? 'internal' : 'room_full', message: '' } },
          { type: 'link', attempt, link: 'connected' },
          { type: 'link', attempt, link: 'interrupted' },
          { type: 'link', attempt, link: 'failed' },
        ];
        const all = [...inputs, ...about, ...about];
        const input = all[Math.floor(random() * all.length)];
        if (input !== undefined) take(stay.input(input));
        if (deadline(stay.state) !== null && random() < 0.3) take(stay.wait());
      }
      take(stay.input({ type: 'leave' }));
      if (open.size > 0) wrong.push(`run ${run}: left open`);
    }
    expect(wrong).toEqual([]);
  });
});
