// What the page says about calls and rooms, in sentences.

import type { Ended } from './call/machine';
import type { Quality } from './call/stats';
import type { ErrorCode, SourceKind } from './protocol/types';
import type { Out } from './room/machine';
import type { Happening } from './room/membership';

/** Why a call ended: a headline, and what to do where there is something to do. */
export function endingWords(ended: Ended): { headline: string; hint: string | null } {
  const name = ended.peer.name;
  const { ending } = ended;
  switch (ending.reason) {
    case 'hung_up':
      return { headline: ending.by === 'me' ? 'Call ended' : `${name} hung up`, hint: null };
    case 'declined':
      return ending.by === 'me'
        ? { headline: 'Call declined', hint: null }
        : { headline: `${name} declined the call`, hint: null };
    case 'busy':
      return { headline: `${name} is in another call`, hint: 'Try again in a little while.' };
    case 'cancelled':
      return ending.by === 'me'
        ? { headline: 'Call cancelled', hint: null }
        : { headline: `Missed call from ${name}`, hint: null };
    case 'no_answer':
      return { headline: 'Nobody answered', hint: `${name} may be away from the screen.` };
    case 'answered_elsewhere':
      return { headline: 'Answered on another device', hint: null };
    case 'declined_elsewhere':
      return { headline: 'Declined on another device', hint: null };
    case 'peer_lost':
      return { headline: `The connection to ${name} was lost`, hint: 'Their device or network went away.' };
    case 'failed':
      return {
        headline: 'The call could not be connected',
        hint: 'No network path was found between the two devices. A firewall may be in the way; a TURN server helps.',
      };
    case 'forgotten':
      return { headline: 'The server was restarted', hint: 'Call again.' };
    case 'broken':
      return { headline: 'The call could not be set up', hint: ending.message };
    case 'signed_out':
      return { headline: `Your call with ${name} ended: you were signed out`, hint: ending.message };
    case 'refused':
      return refusedWords(name, ending.error.code, ending.error.message);
  }
}

function refusedWords(name: string, code: string, message: string): { headline: string; hint: string | null } {
  switch (code) {
    case 'callee_offline':
      return { headline: `${name} is not online`, hint: 'They need to have Halloo open to be called.' };
    case 'callee_unknown':
      return { headline: `Nobody called ${name} is known here`, hint: 'Check the spelling of the name.' };
    case 'callee_busy':
      return { headline: `${name} is in another call`, hint: 'Try again in a little while.' };
    case 'callee_self':
      return { headline: 'You cannot call yourself', hint: null };
    default:
      return { headline: 'The call was refused', hint: message };
  }
}

/** Why one is no longer in a room, or did not get in. */
export function roomEndingWords({ room, ending }: Out): { headline: string; hint: string | null } {
  switch (ending.reason) {
    case 'removed':
      return { headline: 'A moderator removed you from the room', hint: null };
    case 'closed':
      return { headline: 'A moderator closed the room', hint: null };
    case 'left':
      return { headline: 'You left the room', hint: null };
    case 'lost':
      return { headline: 'The room lost you', hint: 'Your connection was away for too long. Join again.' };
    case 'rejoined':
      return { headline: 'You are in this room on another tab', hint: null };
    case 'unreachable':
      return {
        headline: 'The room cannot be reached',
        hint: 'No network path to the server’s media was found. A firewall may be in the way: it needs the server’s media ports.',
      };
    case 'broken':
      return { headline: 'The room could not be set up', hint: ending.message };
    case 'signed_out':
      return { headline: `You are out of ${room}: you were signed out`, hint: ending.message };
    case 'refused':
      return roomRefusedWords(room, ending.error.code, ending.error.message);
  }
}

function roomRefusedWords(room: string, code: ErrorCode, message: string): { headline: string; hint: string | null } {
  switch (code) {
    case 'room_locked':
      return { headline: `${room} is locked`, hint: 'Ask somebody inside to unlock it, then try again.' };
    case 'room_full':
      return { headline: `${room} is full`, hint: 'There is a place as soon as somebody leaves.' };
    case 'room_not_granted':
      return { headline: `Your invitation does not open ${room}`, hint: 'Ask for one to this room.' };
    case 'grant_missing':
      return { headline: `Your invitation does not allow this in ${room}`, hint: message };
    case 'media_unavailable':
      return {
        headline: 'Rooms are not available at the moment',
        hint: 'This server has no media server for rooms, or it does not answer. Calls to one person work all the same.',
      };
    case 'offer_refused':
      return { headline: 'The server cannot take this browser’s media', hint: message };
    case 'token_expired':
      return { headline: 'Your invitation is no longer valid', hint: 'Ask for a new one.' };
    case 'rate_limited':
      return { headline: 'Too many tries', hint: 'Wait a moment, then try again.' };
    default:
      return { headline: `${room} could not be joined`, hint: message };
  }
}

/** What happened in the room; `tone` is null for what a screen reader says and the eye sees anyway. */
export function happeningWords(happening: Happening): { text: string; tone: 'plain' | 'warning' | null } {
  switch (happening.what) {
    case 'joined':
      return { text: `${happening.name} joined`, tone: null };
    case 'left':
      return { text: `${happening.name} ${happening.reason === 'removed' ? 'was removed' : 'left'}`, tone: null };
    case 'sharing':
      return { text: `${happening.name} shares their screen`, tone: null };
    case 'muted':
      return { text: mutedWords(happening.kind), tone: 'warning' };
    case 'locked':
      return { text: happening.locked ? 'The room is locked now' : 'The room is open again', tone: 'plain' };
    case 'moderator':
      return { text: happening.you ? 'You are a moderator now' : 'You are no longer a moderator', tone: 'plain' };
    case 'policed':
      return { text: 'You send more than the room takes: the others may see or hear you badly', tone: 'warning' };
  }
}

function mutedWords(kind: SourceKind): string {
  switch (kind) {
    case 'microphone':
      return 'A moderator muted you';
    case 'camera':
      return 'A moderator turned your camera off';
    case 'screen':
      return 'A moderator stopped your screen';
  }
}

export function qualityWords(quality: Quality): string {
  switch (quality) {
    case 'good':
      return 'Good connection';
    case 'fair':
      return 'Fair connection';
    case 'poor':
      return 'Poor connection';
    case 'unknown':
      return 'Measuring the connection';
  }
}

/** A duration as a clock shows it: `0:07`, `12:40`, `1:02:03`. */
export function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** A duration as one says it: `7 seconds`, `12 minutes 40 seconds`. */
export function spoken(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const part = (n: number, unit: string) => (n === 0 ? [] : [`${n} ${unit}${n === 1 ? '' : 's'}`]);
  const parts = [
    ...part(Math.floor(seconds / 3600), 'hour'),
    ...part(Math.floor(seconds / 60) % 60, 'minute'),
    ...part(seconds % 60, 'second'),
  ];
  return parts.length === 0 ? 'less than a second' : parts.slice(0, 2).join(' ');
}
