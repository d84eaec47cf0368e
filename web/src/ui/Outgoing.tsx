import type { CSSProperties } from 'preact';
import type { App } from '../app';
import type { Outgoing as OutgoingCall } from '../call/machine';
import { Avatar, hue } from './Avatar';
import { RoundButton } from './Button';
import { useFocusOnMount, useShortcuts } from './hooks';
import { SelfView } from './SelfView';

export function Outgoing({ app, call }: { app: App; call: OutgoingCall }) {
  const cancel = () => app.calls.hangUp();
  const button = useFocusOnMount<HTMLButtonElement>();
  useShortcuts([{ key: 'escape', run: cancel }]);
  return (
    <main class="stage stage-ring" style={{ '--hue': String(hue(call.peer.name)) } as CSSProperties}>
      <SelfView app={app} />
      <div class="ring-center">
        <div class={call.phase === 'ringing' ? 'pulse pulse-on' : 'pulse'}>
          <Avatar name={call.peer.name} size="large" />
        </div>
        <h1>{call.peer.name}</h1>
        <p class="ring-state" role="status">
          {phaseWords(call)}
        </p>
      </div>
      <div class="ring-actions">
        <RoundButton
          icon="hangUp"
          label="Cancel the call"
          caption="Cancel"
          shortcut="Esc"
          tone="stop"
          size="large"
          buttonRef={button}
          onClick={cancel}
        />
      </div>
    </main>
  );
}

function phaseWords(call: OutgoingCall): string {
  switch (call.phase) {
    case 'preparing':
      return 'Opening your microphone…';
    case 'inviting':
    case 'calling':
    case 'crossing':
      return 'Calling…';
    case 'ringing':
      return 'Ringing…';
  }
}
