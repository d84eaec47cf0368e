import { expect, it } from 'vitest';
import { nameToUserId, randomId, userIdProblem } from './ids';

it('takes names as people type them', () => {
  expect(nameToUserId('  Anna  Maria ')).toBe('Anna.Maria');
  expect(userIdProblem('Zoë')).toBeNull();
  expect(userIdProblem('alice@example.org')).toBeNull();
});

it('says what is wrong with a name', () => {
  expect(userIdProblem('')).toMatch(/Enter/);
  expect(userIdProblem('a/b')).toMatch(/“\/”/);
  expect(userIdProblem('x'.repeat(65))).toMatch(/64/);
});

it('draws identifiers of 128 bits', () => {
  expect(randomId()).toMatch(/^[0-9a-f]{32}$/);
  expect(randomId()).not.toBe(randomId());
});
