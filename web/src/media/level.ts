// How loud a track is, for meters.

/** Calls `onLevel` with 0 (silence) to 1 (full scale, on a scale that suits the eye) about 20 times a second. */
export function watchLevel(track: MediaStreamTrack, onLevel: (level: number) => void): () => void {
  let context: AudioContext;
  try {
    context = new AudioContext();
  } catch {
    return () => {};
  }
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    const decibels = 10 * Math.log10(sum / samples.length + 1e-10);
    // -60 dBFS to 0 dBFS.
    onLevel(Math.min(1, Math.max(0, (decibels + 60) / 60)));
  }, 50);
  return () => {
    clearInterval(timer);
    void context.close();
  };
}
