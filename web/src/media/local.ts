// The microphone and the camera of this side: opened when a call needs them, closed when it ends, chosen and changed in
// between. A call never waits for a device that is missing: it goes on with what there is.

import { computed, signal } from '@preact/signals';
import type { MediaState } from '../protocol/types';
import { type Device, type Problem, problemOf } from './problems';

const STORED = 'halloo.devices';

export interface Choice {
  microphone: string | null;
  camera: string | null;
  speaker: string | null;
}

const AUDIO: MediaTrackConstraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const VIDEO: MediaTrackConstraints = {
  width: { ideal: 1280 },
  height: { ideal: 720 },
  frameRate: { ideal: 30, max: 30 },
};

export class LocalMedia {
  readonly audio = signal<MediaStreamTrack | null>(null);
  readonly video = signal<MediaStreamTrack | null>(null);
  readonly muted = signal(false);
  /** Whether the camera is meant to be on; `video` says whether it is. */
  readonly cameraWanted = signal(false);
  readonly problems = signal<{ microphone: Problem | null; camera: Problem | null }>({
    microphone: null,
    camera: null,
  });
  readonly choice = signal<Choice>(loadChoice());
  readonly devices = signal<MediaDeviceInfo[]>([]);
  /** What the other side is told. */
  readonly state = computed<MediaState>(() => ({
    audio_muted: this.muted.value || this.audio.value === null,
    video: this.video.value === null ? 'off' : 'camera',
  }));
  /** Draws a line under requests of calls that ended meanwhile. */
  #generation = 0;

  constructor() {
    navigator.mediaDevices?.addEventListener('devicechange', () => void this.#devicesChanged());
  }

  /** Opens what a call starts with. Resolves when it is known what there is; never rejects. */
  async open(camera: boolean): Promise<void> {
    const generation = ++this.#generation;
    this.muted.value = false;
    this.cameraWanted.value = camera;
    this.problems.value = { microphone: null, camera: null };
    const lacking = unavailable();
    if (lacking !== null) {
      this.#problem('microphone', { device: 'microphone', kind: lacking });
      if (camera) this.#problem('camera', { device: 'camera', kind: lacking });
      return;
    }
    if (camera) {
      try {
        // One request, one question to the person.
        const stream = await navigator.mediaDevices.getUserMedia({
          audio: this.#constraints('microphone'),
          video: this.#constraints('camera'),
        });
        this.#take(stream, generation);
        await this.refreshDevices();
        return;
      } catch {
        // One of the two is missing or blocked: ask for each to find out which.
      }
    }
    await this.#openOne('microphone', generation);
    if (camera) await this.#openOne('camera', generation);
    await this.refreshDevices();
  }

  /** Releases the devices. */
  close(): void {
    this.#generation += 1;
    this.#replace('microphone', null);
    this.#replace('camera', null);
    this.cameraWanted.value = false;
  }

  /** Muting keeps the microphone open, so that unmuting is immediate. */
  setMuted(muted: boolean): void {
    this.muted.value = muted;
    if (this.audio.value !== null) this.audio.value.enabled = !muted;
    else if (!muted) void this.#openOne('microphone', this.#generation);
  }

  /** Turning the camera off closes it, so that its light goes out. */
  async setCamera(on: boolean): Promise<void> {
    this.cameraWanted.value = on;
    if (!on) {
      this.#replace('camera', null);
      this.#problem('camera', null);
    } else if (this.video.value === null) {
      await this.#openOne('camera', this.#generation);
      if (this.video.value === null) this.cameraWanted.value = false;
      await this.refreshDevices();
    }
  }

  /** Uses another device from now on, also in the running call. */
  async choose(device: keyof Choice, id: string | null): Promise<void> {
    this.choice.value = { ...this.choice.value, [device]: id };
    localStorage.setItem(STORED, JSON.stringify(this.choice.value));
    if (device === 'microphone' && this.audio.value !== null) await this.#openOne('microphone', this.#generation);
    if (device === 'camera' && this.video.value !== null) await this.#openOne('camera', this.#generation);
  }

  async refreshDevices(): Promise<void> {
    try {
      this.devices.value = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    } catch {
      this.devices.value = [];
    }
  }

  dismissProblem(device: Device): void {
    this.#problem(device, null);
  }

  async #openOne(device: Device, generation: number): Promise<void> {
    const lacking = unavailable();
    if (lacking !== null) return this.#problem(device, { device, kind: lacking });
    const constraints = this.#constraints(device);
    try {
      const stream = await navigator.mediaDevices.getUserMedia(
        device === 'microphone' ? { audio: constraints } : { video: constraints },
      );
      this.#problem(device, null);
      this.#take(stream, generation);
    } catch (error) {
      if (generation === this.#generation) this.#problem(device, problemOf(device, error));
    }
  }

  #take(stream: MediaStream, generation: number): void {
    const stale = generation !== this.#generation;
    for (const track of stream.getTracks()) {
      if (stale || (track.kind === 'video' && !this.cameraWanted.value)) track.stop();
      else this.#replace(track.kind === 'audio' ? 'microphone' : 'camera', track);
    }
  }

  #replace(device: Device, track: MediaStreamTrack | null): void {
    const slot = device === 'microphone' ? this.audio : this.video;
    const old = slot.value;
    if (device === 'microphone' && track !== null) track.enabled = !this.muted.value;
    if (track !== null) track.onended = () => void this.#unplugged(device, track);
    slot.value = track;
    if (old !== null && old !== track) {
      old.onended = null;
      old.stop();
    }
  }

  /** The device went away in mid-call: go on with another, else without. */
  async #unplugged(device: Device, track: MediaStreamTrack): Promise<void> {
    const slot = device === 'microphone' ? this.audio : this.video;
    if (slot.value !== track) return;
    slot.value = null;
    await this.#openOne(device, this.#generation);
  }

  async #devicesChanged(): Promise<void> {
    await this.refreshDevices();
    const { microphone, camera } = this.problems.value;
    if (microphone?.kind === 'missing') await this.#openOne('microphone', this.#generation);
    if (camera?.kind === 'missing' && this.cameraWanted.value) await this.#openOne('camera', this.#generation);
  }

  #constraints(device: Device): MediaTrackConstraints {
    const id = this.choice.value[device];
    const base = device === 'microphone' ? AUDIO : VIDEO;
    // `ideal`: where the chosen device is not plugged in, another one is better than none.
    return id === null ? base : { ...base, deviceId: { ideal: id } };
  }

  #problem(device: Device, problem: Problem | null): void {
    this.problems.value = { ...this.problems.value, [device]: problem };
  }
}

function unavailable(): 'insecure' | 'unsupported' | null {
  if (navigator.mediaDevices?.getUserMedia !== undefined) return null;
  return window.isSecureContext ? 'unsupported' : 'insecure';
}

function loadChoice(): Choice {
  const none: Choice = { microphone: null, camera: null, speaker: null };
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(STORED) ?? '{}');
    return { ...none, ...(stored as Partial<Choice>) };
  } catch {
    return none;
  }
}
