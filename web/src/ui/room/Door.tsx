import { useEffect } from 'preact/hooks';
import type { App } from '../../app';
import { isBusy } from '../../call/machine';
import type { RoomId } from '../../protocol/types';
import { isIn } from '../../room/machine';
import { Avatar } from '../Avatar';
import { RoundButton } from '../Button';
import { MediaButtons } from '../controls';
import { useFocusOnMount, useShortcuts } from '../hooks';
import { SelfView } from '../SelfView';

/** Before a room: how one will be seen and heard, and a press that lets the browser play sound. */
export function Door({ app, room }: { app: App; room: RoomId }) {
  const { media } = app;
  const button = useFocusOnMount<HTMLButtonElement>();
  const back = () => app.leaveRoom();
  useShortcuts([{ key: 'escape', run: back }]);
  useEffect(() => {
    void media.open(true);
    return () => {
      if (!isIn(app.room.state.peek()) && !isBusy(app.calls.state.peek())) media.close();
    };
  }, []);
  const name = app.me.value?.name ?? '';
  const offline = app.connection.value.kind !== 'online';
  return (
    <main class="stage stage-door" aria-labelledby="door-title">
      <div class="door">
        <h1 id="door-title">{room}</h1>
        <p class="ring-state">{offline ? 'Connecting to the server…' : 'Ready to join the room?'}</p>
        <div class="door-view">
          {media.video.value === null ? <Avatar name={name} size="large" /> : <SelfView app={app} />}
          <div class="door-media">
            <MediaButtons app={app} />
          </div>
        </div>
        <div class="ring-actions">
          <RoundButton icon="close" label="Do not join" caption="Back" shortcut="Esc" size="large" onClick={back} />
          <RoundButton
            icon="check"
            label={`Join ${room}`}
            caption="Join"
            tone="go"
            size="large"
            buttonRef={button}
            disabled={offline}
            onClick={() => app.room.enter(room)}
          />
        </div>
      </div>
    </main>
  );
}
