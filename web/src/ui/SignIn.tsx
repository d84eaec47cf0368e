import { useEffect, useRef, useState } from 'preact/hooks';
import type { App } from '../app';
import { nameToUserId } from '../protocol/ids';
import { Button } from './Button';
import { Icon } from './Icon';

export function SignIn({ app }: { app: App }) {
  const [typed, setTyped] = useState(app.lastName);
  const [problem, setProblem] = useState<string | null>(null);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.select(), []);

  const connection = app.connection.value;
  const refusal = connection.kind === 'signed_out' ? connection.why : null;
  const connecting = connection.kind === 'connecting' || connection.kind === 'reconnecting';
  const shown = problem ?? refusal;
  const id = nameToUserId(typed);
  const differs = id !== '' && id !== typed.trim();

  return (
    <main class="sign-in">
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          setProblem(app.signInAs(typed));
          field.current?.focus();
        }}
      >
        <img class="mark" src="./icon.svg" alt="" width="72" height="72" />
        <h1>Halloo</h1>
        <p class="lead">
          {app.door.value === null
            ? 'Voice and video calls, straight from the browser.'
            : `You are invited to the room ${app.door.value}.`}
        </p>
        <label class="field">
          <span>Your name</span>
          <input
            ref={field}
            name="name"
            type="text"
            value={typed}
            autocomplete="nickname"
            autocapitalize="words"
            spellcheck={false}
            maxLength={64}
            placeholder="So that others can find you"
            aria-invalid={shown !== null}
            aria-describedby="sign-in-note"
            onInput={(event) => {
              setTyped(event.currentTarget.value);
              setProblem(null);
            }}
          />
        </label>
        <Button tone="primary" type="submit" disabled={connecting}>
          {connecting ? 'Signing in…' : 'Continue'}
        </Button>
        <p id="sign-in-note" class={shown === null ? 'note' : 'note note-problem'} role="status">
          {shown !== null && <Icon name="alert" size={18} />}
          {shown ??
            (connection.kind === 'reconnecting'
              ? 'The server cannot be reached. Trying again…'
              : differs
                ? `Others will see you as ${id}.`
                : ' ')}
        </p>
        {!window.isSecureContext && (
          <p class="note note-problem">
            <Icon name="alert" size={18} />
            <span>
              This page came without HTTPS, so there will be no microphone and no camera. Open its https:// address, or
              localhost.
            </span>
          </p>
        )}
      </form>
    </main>
  );
}
