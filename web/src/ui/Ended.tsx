import type { CSSProperties } from 'preact';
import { useEffect } from 'preact/hooks';
import type { App } from '../app';
import type { Ended as EndedCall } from '../call/machine';
import { endingWords, spoken } from '../words';
import { Avatar, hue } from './Avatar';
import { RoundButton } from './Button';
import { useFocusOnMount, useShortcuts } from './hooks';

/** A plain ending leaves by itself. */
const STAYS_MS = 8_000;

export function Ended({ app, call }: { app: App; call: EndedCall }) {
  const { headline, hint } = endingWords(call);
  const dismiss = () => app.calls.dismiss();
  const button = useFocusOnMount<HTMLButtonElement>();
  useShortcuts([{ key: 'escape', run: dismiss }]);
  useEffect(() => {
    if (hint !== null || call.ending.reason === 'cancelled') return;
    const timer = setTimeout(dismiss, STAYS_MS);
    return () => clearTimeout(timer);
  }, [call.call]);
  const elsewhere = call.ending.reason === 'answered_elsewhere' || call.ending.reason === 'declined_elsewhere';
  return (
    <main class="stage stage-ring" style={{ '--hue': String(hue(call.peer.name)) } as CSSProperties}>
      <div class="ring-center">
        <div class="pulse">
          <Avatar name={call.peer.name} size="large" />
        </div>
        <h1>{headline}</h1>
        {call.durationMs > 0 && <p class="ring-state">The call lasted {spoken(call.durationMs)}.</p>}
        {hint !== null && <p class="ring-state">{hint}</p>}
      </div>
      <div class="ring-actions">
        <RoundButton
          icon="close"
          label="Back to the list"
          caption="Close"
          shortcut="Esc"
          size="large"
          buttonRef={button}
          onClick={dismiss}
        />
        {!elsewhere && (
          <RoundButton
            icon="phone"
            label={`Call ${call.peer.name} again`}
            caption="Call again"
            tone="go"
            size="large"
            onClick={() => app.calls.dial(call.peer, true)}
          />
        )}
      </div>
    </main>
  );
}
