import type { CSSProperties } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { App } from '../app';
import type { Active } from '../call/machine';
import { quality } from '../call/stats';
import { clock, qualityWords } from '../words';
import { Avatar, hue } from './Avatar';
import { RoundButton } from './Button';
import { Banner, FullscreenButton, MediaButtons, UnblockSound } from './controls';
import { useLevel, useNow, useShortcuts } from './hooks';
import { Icon } from './Icon';
import { Picture, Sound, useFreshPicture } from './Picture';
import { SelfView } from './SelfView';
import { SettingsPanel } from './Settings';
import { StatisticsPanel } from './Statistics';

type Panel = 'settings' | 'statistics' | null;

/** The controls fade after this long without a movement, where there is a picture to see. */
const CONTROLS_STAY_MS = 4_000;

export function InCall({ app, call }: { app: App; call: Active }) {
  const [panel, setPanel] = useState<Panel>(null);
  const [blocked, setBlocked] = useState(false);
  const stage = useRef<HTMLElement>(null);
  const { media, calls } = app;
  const remote = calls.remote.value;
  const video = useRef<HTMLVideoElement>(null);
  const picture = useFreshPicture(video, remote, call.peerMedia.video !== 'off' && call.connectedAt !== null);
  const awake = useAwake(stage, picture && panel === null);

  const toggle = (which: Panel) => setPanel(panel === which ? null : which);
  const hangUp = () => calls.hangUp();
  useShortcuts([
    { key: 's', run: () => toggle('settings') },
    { key: 'i', run: () => toggle('statistics') },
    { key: 'ctrl+h', run: hangUp },
  ]);
  useEffect(() => {
    stage.current?.focus();
  }, []);

  return (
    <main
      ref={stage}
      tabIndex={-1}
      class={`stage stage-call${awake ? '' : ' stage-calm'}`}
      style={{ '--hue': String(hue(call.peer.name)) } as CSSProperties}
      aria-label={`Call with ${call.peer.name}`}
    >
      {remote !== null && (
        <>
          <Sound stream={remote} speaker={media.choice.value.speaker} onBlocked={() => setBlocked(true)} />
          <Picture
            stream={remote}
            label={`${call.peer.name}’s picture`}
            class={picture ? 'remote-picture' : 'remote-picture picture-hidden'}
            videoRef={video}
          />
        </>
      )}
      {!picture && <NoPicture call={call} remote={remote} />}

      <header class="call-head">
        <div class="call-who">
          <span class="call-name">{call.peer.name}</span>
          <Duration call={call} />
        </div>
        {call.peerMedia.audio_muted && (
          <span class="chip">
            <Icon name="microphoneOff" size={16} />
            Muted
          </span>
        )}
        <QualityButton app={app} open={panel === 'statistics'} onClick={() => toggle('statistics')} />
      </header>

      <Banner words={bannerWords(app, call)} />
      <SelfView app={app} />

      {panel === 'settings' && <SettingsPanel app={app} onClose={() => setPanel(null)} />}
      {panel === 'statistics' && <StatisticsPanel app={app} onClose={() => setPanel(null)} />}
      {blocked && <UnblockSound onDone={() => setBlocked(false)} />}

      <div class="controls" role="toolbar" aria-label="Call controls">
        <MediaButtons app={app} />
        <RoundButton
          icon="settings"
          label="Devices"
          shortcut="S"
          expanded={panel === 'settings'}
          onClick={() => toggle('settings')}
        />
        <FullscreenButton element={stage} />
        <RoundButton icon="hangUp" label="Hang up" shortcut="Ctrl+H" tone="stop" onClick={hangUp} />
      </div>
    </main>
  );
}

function Duration({ call }: { call: Active }) {
  const now = useNow(500);
  if (call.connectedAt === null) return <span class="call-time">Connecting…</span>;
  return (
    <span class="call-time" role="timer" aria-label="Duration of the call">
      {clock(now - call.connectedAt)}
    </span>
  );
}

/** Instead of the picture: who it is, and a ring that moves with their voice. */
function NoPicture({ call, remote }: { call: Active; remote: MediaStream | null }) {
  const track = call.connectedAt === null ? null : (remote?.getAudioTracks()[0] ?? null);
  const ring = useLevel<HTMLDivElement>(track);
  return (
    <div class="no-picture">
      <div ref={ring} class="voice">
        <Avatar name={call.peer.name} size="large" />
      </div>
      <p>{noPictureWords(call)}</p>
    </div>
  );
}

function noPictureWords(call: Active): string {
  if (call.connectedAt === null) return 'Connecting…';
  if (call.peerMedia.video === 'off') return `${call.peer.name}’s camera is off`;
  return `Waiting for ${call.peer.name}’s picture…`;
}

function QualityButton({ app, open, onClick }: { app: App; open: boolean; onClick(): void }) {
  const grade = quality(app.calls.samples.value);
  const words = qualityWords(grade);
  return (
    <span class="round">
      <button
        type="button"
        class={`chip chip-button quality-${grade}`}
        aria-label={`${words}. Statistics`}
        aria-expanded={open}
        aria-keyshortcuts="I"
        onClick={onClick}
      >
        <span class="bars" aria-hidden="true">
          <span />
          <span />
          <span />
        </span>
      </button>
      <span class="tip tip-below" aria-hidden="true">
        {words}
        <kbd>I</kbd>
      </span>
    </span>
  );
}

function bannerWords(app: App, call: Active): string | null {
  if (call.link === 'interrupted') {
    return call.peerReach === 'lost' ? `${call.peer.name} lost the connection…` : 'Reconnecting the call…';
  }
  if (app.connection.value.kind === 'reconnecting') return 'The server cannot be reached; the call goes on.';
  return null;
}

/** Whether the controls are shown: always but after a while of stillness in front of a picture. */
function useAwake(element: { readonly current: HTMLElement | null }, mayCalm: boolean): boolean {
  const [awake, setAwake] = useState(true);
  useEffect(() => {
    if (!mayCalm) {
      setAwake(true);
      return;
    }
    let timer: ReturnType<typeof setTimeout>;
    const calm = () => {
      // A control that has the focus by keyboard stays in sight.
      if (element.current?.querySelector('.controls :focus-visible, .call-head :focus-visible')) wake();
      else setAwake(false);
    };
    const wake = () => {
      setAwake(true);
      clearTimeout(timer);
      timer = setTimeout(calm, CONTROLS_STAY_MS);
    };
    wake();
    const events = ['pointermove', 'pointerdown', 'keydown', 'focusin'] as const;
    for (const each of events) window.addEventListener(each, wake);
    return () => {
      clearTimeout(timer);
      for (const each of events) window.removeEventListener(each, wake);
    };
  }, [mayCalm]);
  return awake;
}
