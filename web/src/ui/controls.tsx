import { useEffect, useState } from 'preact/hooks';
import type { App } from '../app';
import { RoundButton } from './Button';
import { useShortcuts } from './hooks';
import { Icon } from './Icon';

/** Microphone and camera, with their keys. */
export function MediaButtons({ app, cameraProblem = null }: { app: App; cameraProblem?: string | null }) {
  const { media } = app;
  const toggleMute = () => {
    media.setMuted(!media.state.value.audio_muted);
    app.announcement.value = media.muted.value ? 'Microphone off' : 'Microphone on';
  };
  const toggleCamera = () => {
    if (cameraProblem !== null) return;
    const on = media.video.value === null;
    app.announcement.value = on ? 'Camera on' : 'Camera off';
    void media.setCamera(on);
  };
  useShortcuts([
    { key: 'm', run: toggleMute },
    { key: 'v', run: toggleCamera },
  ]);
  const muted = media.state.value.audio_muted;
  const camera = media.video.value !== null;
  return (
    <>
      <RoundButton
        icon={muted ? 'microphoneOff' : 'microphone'}
        label={muted ? 'Unmute' : 'Mute'}
        shortcut="M"
        pressed={muted}
        onClick={toggleMute}
      />
      <RoundButton
        icon={camera ? 'camera' : 'cameraOff'}
        label={cameraProblem ?? (camera ? 'Turn camera off' : 'Turn camera on')}
        shortcut="V"
        pressed={!camera}
        disabled={cameraProblem !== null}
        onClick={toggleCamera}
      />
    </>
  );
}

/** Shows an element alone on the screen, where the browser can. */
export function FullscreenButton({ element }: { element: { readonly current: HTMLElement | null } }) {
  const fullscreen = useFullscreen(element);
  useShortcuts([{ key: 'f', run: fullscreen.toggle }]);
  if (!fullscreen.possible) return null;
  return (
    <RoundButton
      icon={fullscreen.on ? 'fullscreenOff' : 'fullscreen'}
      label={fullscreen.on ? 'Leave full screen' : 'Full screen'}
      shortcut="F"
      onClick={fullscreen.toggle}
    />
  );
}

/** What is going on with the connection; `null` while all is well. */
export function Banner({ words }: { words: string | null }) {
  return (
    <div class="banner-place" role="status" aria-live="polite">
      {words !== null && (
        <p class="banner">
          <span class="spinner" aria-hidden="true" />
          {words}
        </p>
      )}
    </div>
  );
}

/** For browsers that play no sound before a press. */
export function UnblockSound({ onDone }: { onDone(): void }) {
  const unblock = () => {
    for (const each of document.querySelectorAll('audio')) void each.play();
    onDone();
  };
  return (
    <button type="button" class="unblock" onClick={unblock}>
      <Icon name="speaker" size={20} />
      Turn the sound on
    </button>
  );
}

/** Copies a text, and says for a moment that it did. */
export function useCopy(text: string): { copied: boolean; copy(): void } {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2_000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () =>
    navigator.clipboard?.writeText(text).then(
      () => setCopied(true),
      () => {},
    );
  return { copied, copy };
}

function useFullscreen(element: { readonly current: HTMLElement | null }) {
  const [on, setOn] = useState(document.fullscreenElement !== null);
  useEffect(() => {
    const changed = () => setOn(document.fullscreenElement !== null);
    document.addEventListener('fullscreenchange', changed);
    return () => {
      document.removeEventListener('fullscreenchange', changed);
      if (document.fullscreenElement !== null) void document.exitFullscreen();
    };
  }, []);
  const toggle = () => {
    if (document.fullscreenElement !== null) void document.exitFullscreen();
    else void element.current?.requestFullscreen?.().catch(() => {});
  };
  return { on, toggle, possible: document.fullscreenEnabled };
}
