import { useState } from 'preact/hooks';
import type { App } from '../app';
import { Button } from './Button';
import { Icon } from './Icon';

/** Into a room by its name. */
export function OpenRoom({ app }: { app: App }) {
  const [typed, setTyped] = useState('');
  const [problem, setProblem] = useState<string | null>(null);
  return (
    <form
      class="open-room"
      onSubmit={(event) => {
        event.preventDefault();
        setProblem(app.openDoor(typed));
      }}
    >
      <h2 id="open-room-title">
        <Icon name="people" size={20} />
        Meet several people
      </h2>
      <p class="open-room-lead" id="open-room-lead">
        Whoever enters the same name is in the same room.
      </p>
      <div class="open-room-row">
        <input
          name="room"
          type="text"
          value={typed}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          maxLength={64}
          placeholder="Room name"
          aria-label="Room name"
          aria-invalid={problem !== null}
          aria-describedby={problem === null ? 'open-room-lead' : 'open-room-note'}
          onInput={(event) => {
            setTyped(event.currentTarget.value);
            setProblem(null);
          }}
        />
        <Button type="submit">Open room</Button>
      </div>
      {problem !== null && (
        <p id="open-room-note" class="note note-problem" role="status">
          <Icon name="alert" size={18} />
          {problem}
        </p>
      )}
    </form>
  );
}
