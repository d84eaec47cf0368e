import { expect, it } from 'vitest';
import { fragmentOf, roomFromFragment, tokenFromFragment } from './invite';

it('an invitation names its room and may carry a token', () => {
  expect(roomFromFragment('#/room/stand-up')).toBe('stand-up');
  expect(roomFromFragment(fragmentOf('größe@büro'))).toBe('größe@büro');
  expect(roomFromFragment('#/room/a?token=x.y.z')).toBe('a');
  expect(tokenFromFragment('#/room/a?token=x.y.z')).toBe('x.y.z');
  expect(tokenFromFragment('#token=x.y.z')).toBe('x.y.z');
});

it('what is no invitation names nothing', () => {
  for (const fragment of ['', '#', '#/room/', '#token=a', '#/room/%ff']) expect(roomFromFragment(fragment)).toBeNull();
  expect(tokenFromFragment('#/room/token=a')).toBeNull();
  expect(tokenFromFragment('#/room/a')).toBeNull();
});
