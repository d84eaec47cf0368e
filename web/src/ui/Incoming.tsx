import type { CSSProperties } from 'preact';
import type { App } from '../app';
import type { Incoming as IncomingCall } from '../call/machine';
import { Avatar, hue } from './Avatar';
import { RoundButton } from './Button';
import { useFocusOnMount, useShortcuts } from './hooks';

export function Incoming({ app, call }: { app: App; call: IncomingCall }) {
  const answering = call.phase === 'answering';
  const answer = (camera: boolean) => app.calls.answer(camera);
  const decline = () => app.calls.decline();
  const button = useFocusOnMount<HTMLButtonElement>();
  const withVideo = call.peerMedia.video !== 'off';
  useShortcuts([
    { key: 'a', run: () => answer(withVideo) },
    { key: 'd', run: decline },
  ]);
  return (
    <main
      class="stage stage-ring"
      style={{ '--hue': String(hue(call.peer.name)) } as CSSProperties}
      aria-labelledby="incoming-name"
    >
      <div class="ring-center">
        <div class={answering ? 'pulse' : 'pulse pulse-on'}>
          <Avatar name={call.peer.name} size="large" />
        </div>
        <h1 id="incoming-name">{call.peer.name}</h1>
        <p class="ring-state" role="status">
          {answering ? 'Connecting…' : withVideo ? 'Video call' : 'Voice call'}
        </p>
      </div>
      <div class="ring-actions">
        <RoundButton
          icon="hangUp"
          label="Decline"
          caption="Decline"
          shortcut="D"
          tone="stop"
          size="large"
          onClick={decline}
        />
        <RoundButton
          icon="phone"
          label="Answer without camera"
          caption="Audio only"
          tone={withVideo ? 'plain' : 'go'}
          size="large"
          disabled={answering}
          {...(withVideo ? {} : { shortcut: 'A', buttonRef: button })}
          onClick={() => answer(false)}
        />
        <RoundButton
          icon="camera"
          label="Answer with camera"
          caption="Video"
          tone={withVideo ? 'go' : 'plain'}
          size="large"
          disabled={answering}
          {...(withVideo ? { shortcut: 'A', buttonRef: button } : {})}
          onClick={() => answer(true)}
        />
      </div>
    </main>
  );
}
