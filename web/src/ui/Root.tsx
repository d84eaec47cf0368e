import type { App } from '../app';
import { Ended } from './Ended';
import { Icon } from './Icon';
import { InCall } from './InCall';
import { Incoming } from './Incoming';
import { Outgoing } from './Outgoing';
import { People } from './People';
import { Door } from './room/Door';
import { EnteringRoom, RoomOver } from './room/Over';
import { Room } from './room/Room';
import { SignIn } from './SignIn';

/** The screen that fits the state, and what lies above all screens. */
export function Root({ app }: { app: App }) {
  return (
    <>
      <Screen app={app} />
      <Notices app={app} />
      <p class="unseen" role="status" aria-live="assertive">
        {app.announcement}
      </p>
    </>
  );
}

function Screen({ app }: { app: App }) {
  if (app.me.value === null) return <SignIn app={app} />;
  const state = app.calls.state.value;
  switch (state.kind) {
    case 'idle':
      return <RoomScreen app={app} />;
    case 'outgoing':
      return <Outgoing app={app} call={state} />;
    case 'incoming':
      return <Incoming app={app} call={state} />;
    case 'active':
      return <InCall app={app} call={state} />;
    case 'ended':
      // One's own hang-up needs no screen: a notice says it.
      return state.ending.by === 'me' && state.ending.reason !== 'broken' ? (
        <RoomScreen app={app} />
      ) : (
        <Ended app={app} call={state} />
      );
  }
}

/** A room, its door, or the people outside. */
function RoomScreen({ app }: { app: App }) {
  const room = app.room.state.value;
  switch (room.kind) {
    case 'entering':
      return <EnteringRoom app={app} room={room} />;
    case 'inside':
      return <Room app={app} room={room} />;
    case 'out':
      return <RoomOver app={app} room={room} />;
    case 'idle': {
      const door = app.door.value;
      return door === null ? <People app={app} /> : <Door key={door} app={app} room={door} />;
    }
  }
}

function Notices({ app }: { app: App }) {
  return (
    <div class="notices" role="status" aria-live="polite">
      {app.notices.value.map((notice) => (
        <div key={notice.id} class={`notice notice-${notice.tone}`}>
          <Icon name={notice.tone === 'warning' ? 'alert' : 'check'} size={20} />
          <span>{notice.text}</span>
          <button type="button" class="icon-button" aria-label="Dismiss" onClick={() => app.dismissNotice(notice.id)}>
            <Icon name="close" size={18} />
          </button>
        </div>
      ))}
    </div>
  );
}
