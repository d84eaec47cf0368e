import { expect, it } from 'vitest';
import { withoutCandidates } from './peer';

it('reads an offer without its candidates, so that nothing is resolved before the answer', () => {
  const sdp = [
    'v=0',
    'm=audio 9 UDP/TLS/RTP/SAVPF 111',
    'a=candidate:1 1 udp 1 evil.example.org 9 typ host',
    'a=mid:0',
    'm=video 9 UDP/TLS/RTP/SAVPF 45',
    'a=candidate:2 1 udp 1 10.0.0.1 9 typ host',
    'a=end-of-candidates',
    '',
  ].join('\r\n');
  const { description, candidates } = withoutCandidates(sdp);
  expect(description).not.toContain('candidate');
  expect(description.endsWith('\r\n')).toBe(true);
  expect(candidates).toEqual([
    { candidate: 'candidate:1 1 udp 1 evil.example.org 9 typ host', sdpMLineIndex: 0 },
    { candidate: 'candidate:2 1 udp 1 10.0.0.1 9 typ host', sdpMLineIndex: 1 },
  ]);
});
