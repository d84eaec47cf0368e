// One's own screen, window or tab, while it is shared. The browser asks what to show, and ends it as it likes.

import { signal } from '@preact/signals';

/** Text is read, not watched: few pictures, all of them sharp. */
const VIDEO: MediaTrackConstraints = { frameRate: { ideal: 15, max: 30 } };

export class ScreenShare {
  readonly track = signal<MediaStreamTrack | null>(null);

  /** Telephones cannot. */
  get possible(): boolean {
    return navigator.mediaDevices?.getDisplayMedia !== undefined;
  }

  /** Resolves with what went wrong, in words; `null` where nothing did, or the person thought better of it. */
  async start(): Promise<string | null> {
    if (this.track.value !== null) return null;
    try {
      const stream = await navigator.mediaDevices.getDisplayMedia({ video: VIDEO, audio: false });
      const track = stream.getVideoTracks()[0];
      if (track === undefined) return null;
      track.contentHint = 'detail';
      track.onended = () => this.stop();
      this.stop();
      this.track.value = track;
      return null;
    } catch (error) {
      const cancelled = error instanceof DOMException && error.name === 'NotAllowedError';
      return cancelled ? null : 'The screen could not be shared. The system may forbid it for this browser.';
    }
  }

  stop(): void {
    const track = this.track.value;
    if (track === null) return;
    track.onended = null;
    track.stop();
    this.track.value = null;
  }
}
