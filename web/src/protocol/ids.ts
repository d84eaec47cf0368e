// Identifiers as the protocol allows them: 1 to 64 letters, digits and `. _ - @ +`.

const MAX = 64;
const FORBIDDEN = /[^\p{Alphabetic}\p{Number}._\-@+]/u;

/** A fresh identifier of 128 random bits. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** What a person typed, as a user id: spaces become dots. */
export function nameToUserId(typed: string): string {
  return typed.normalize('NFC').trim().replace(/\s+/gu, '.');
}

/** What is wrong with a user id, in words; `null` where nothing is. */
export function userIdProblem(id: string): string | null {
  if (id === '') return 'Enter a name.';
  if ([...id].length > MAX) return `A name has at most ${MAX} characters.`;
  const found = FORBIDDEN.exec(id);
  return found ? `A name cannot contain “${found[0]}”. Letters, digits and . _ - @ + are fine.` : null;
}
