// What the page says about calls, in sentences.

import type { Ended } from './call/machine';
import type { Quality } from './call/stats';

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
