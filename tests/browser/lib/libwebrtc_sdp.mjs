// What this build of libwebrtc can be told by its session descriptions only.

/** AV1 before the other codecs: there is no setCodecPreferences, and the order of payload types does the same (RFC 3264, section 5.1). */
export function preferAv1(sdp) {
  const lines = sdp.split('\r\n');
  const at = lines.findIndex((line) => line.startsWith('m=video'));
  if (at < 0) return sdp;
  const av1 = av1Types(lines);
  const [media, port, protocol, ...types] = lines[at].split(' ');
  lines[at] = [media, port, protocol, ...av1, ...types.filter((type) => !av1.includes(type))].join(' ');
  return lines.join('\r\n');
}

/**
 * A remote description that makes the sender of pictures begin at this bitrate, rather than at 300 kbit/s, and not exceed it.
 * `setParameters` always fails in this build.
 */
export function hold(sdp, kbps) {
  const lines = sdp.split('\r\n');
  for (const type of av1Types(lines)) {
    const rates = `x-google-start-bitrate=${kbps};x-google-max-bitrate=${kbps}`;
    const parameters = lines.findIndex((line) => line.startsWith(`a=fmtp:${type} `));
    if (parameters >= 0) lines[parameters] += `;${rates}`;
    else lines.splice(lines.findIndex((line) => line.startsWith(`a=rtpmap:${type} `)) + 1, 0, `a=fmtp:${type} ${rates}`);
  }
  const video = lines.findIndex((line) => line.startsWith('m=video'));
  const connection = lines.findIndex((line, index) => index > video && line.startsWith('c='));
  // RFC 3890: without the headers below.
  if (video >= 0 && connection >= 0) lines.splice(connection + 1, 0, `b=TIAS:${kbps * 1000}`);
  return lines.join('\r\n');
}

function av1Types(lines) {
  return lines.flatMap((line) => /^a=rtpmap:(\d+) AV1\//i.exec(line)?.[1] ?? []);
}
