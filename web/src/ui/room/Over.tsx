import type { App } from '../../app';
import type { Entering, Out } from '../../room/machine';
import { roomEndingWords } from '../../words';
import { Avatar } from '../Avatar';
import { RoundButton } from '../Button';
import { useFocusOnMount, useShortcuts } from '../hooks';

/** On the way in. */
export function EnteringRoom({ app, room }: { app: App; room: Entering }) {
  const leave = () => app.leaveRoom();
  const button = useFocusOnMount<HTMLButtonElement>();
  useShortcuts([{ key: 'escape', run: leave }]);
  return (
    <main class="stage stage-ring" aria-labelledby="room-title">
      <div class="ring-center">
        <div class="pulse pulse-on">
          <Avatar name={room.room} size="large" />
        </div>
        <h1 id="room-title">{room.room}</h1>
        <p class="ring-state" role="status">
          Joining…
        </p>
      </div>
      <div class="ring-actions">
        <RoundButton
          icon="close"
          label="Do not join"
          caption="Cancel"
          shortcut="Esc"
          size="large"
          buttonRef={button}
          onClick={leave}
        />
      </div>
    </main>
  );
}

/** Out of a room, and not by one's own wish. */
export function RoomOver({ app, room }: { app: App; room: Out }) {
  const { headline, hint } = roomEndingWords(room);
  const leave = () => app.leaveRoom();
  const button = useFocusOnMount<HTMLButtonElement>();
  useShortcuts([{ key: 'escape', run: leave }]);
  return (
    <main class="stage stage-ring" aria-labelledby="room-title">
      <div class="ring-center">
        <div class="pulse">
          <Avatar name={room.room} size="large" />
        </div>
        <h1 id="room-title">{headline}</h1>
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
          onClick={leave}
        />
        <RoundButton
          icon="people"
          label={`Join ${room.room} again`}
          caption="Join again"
          tone="go"
          size="large"
          onClick={() => app.room.dismiss()}
        />
      </div>
    </main>
  );
}
