// The ring tone and the ringback tone, made of a few soft notes by WebAudio.

type Tone = 'incoming' | 'outgoing';

interface Note {
  /** Seconds from the start of the pattern. */
  at: number;
  hz: number;
  gain: number;
  length: number;
}

/** A rising pentatonic figure, twice, then a rest. */
const INCOMING: Note[] = [0, 1.1].flatMap((start) => [
  { at: start, hz: 523.25, gain: 0.22, length: 0.9 },
  { at: start + 0.16, hz: 659.25, gain: 0.2, length: 0.9 },
  { at: start + 0.32, hz: 783.99, gain: 0.2, length: 1.1 },
  { at: start + 0.48, hz: 1046.5, gain: 0.16, length: 1.4 },
]);
const OUTGOING: Note[] = [
  { at: 0, hz: 392, gain: 0.07, length: 1.3 },
  { at: 0.02, hz: 493.88, gain: 0.06, length: 1.3 },
];
const PERIOD_MS: Record<Tone, number> = { incoming: 3_600, outgoing: 3_000 };

export class Ringer {
  #context: AudioContext | null = null;
  #playing: Tone | null = null;
  #timer: ReturnType<typeof setInterval> | null = null;
  #output: GainNode | null = null;

  /** Plays this tone over and over; `null` is silence. */
  play(tone: Tone | null): void {
    if (tone === this.#playing) return;
    this.#stop();
    this.#playing = tone;
    if (tone === null) return;
    try {
      this.#context ??= new AudioContext();
    } catch {
      return;
    }
    // Without a gesture on the page the browser keeps it silent; the screen shows the call all the same.
    void this.#context.resume().catch(() => {});
    const output = this.#context.createGain();
    output.connect(this.#context.destination);
    this.#output = output;
    const context = this.#context;
    const once = () => {
      for (const note of tone === 'incoming' ? INCOMING : OUTGOING) strike(context, output, note);
      if (tone === 'incoming' && !matchMedia('(prefers-reduced-motion: reduce)').matches)
        navigator.vibrate?.([200, 100, 200]);
    };
    once();
    this.#timer = setInterval(once, PERIOD_MS[tone]);
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    if (this.#output !== null && this.#context !== null) {
      const output = this.#output;
      output.gain.setTargetAtTime(0, this.#context.currentTime, 0.05);
      setTimeout(() => output.disconnect(), 400);
      this.#output = null;
    }
  }
}

/** One note like a small wooden bar: a sine, its fourth harmonic fading faster. */
function strike(context: AudioContext, output: AudioNode, note: Note): void {
  for (const [ratio, share, length] of [
    [1, 1, note.length],
    [4, 0.18, note.length / 4],
  ] as const) {
    const start = context.currentTime + note.at + 0.02;
    const oscillator = context.createOscillator();
    const envelope = context.createGain();
    oscillator.frequency.value = note.hz * ratio;
    envelope.gain.setValueAtTime(0, start);
    envelope.gain.linearRampToValueAtTime(note.gain * share, start + 0.012);
    envelope.gain.exponentialRampToValueAtTime(0.0001, start + length);
    oscillator.connect(envelope).connect(output);
    oscillator.start(start);
    oscillator.stop(start + length + 0.05);
  }
}
