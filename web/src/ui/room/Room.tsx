import type { CSSProperties } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { App } from '../../app';
import type { RoomId, SourceOf } from '../../protocol/types';
import { invitation } from '../../room/invite';
import { LARGE_PAGE, type Layout, layout, PAGE, type View } from '../../room/layout';
import type { Inside } from '../../room/machine';
import { isSame } from '../../room/membership';
import { MAX_VIDEO_SLOTS } from '../../room/peer';
import { wishes } from '../../room/wishes';
import { hue } from '../Avatar';
import { RoundButton } from '../Button';
import { Banner, FullscreenButton, MediaButtons, UnblockSound, useCopy } from '../controls';
import { useHidden, useShortcuts, useSize } from '../hooks';
import { Icon, type IconName } from '../Icon';
import { Sound } from '../Picture';
import { SettingsPanel } from '../Settings';
import { ParticipantsPanel } from './Participants';
import { Tile } from './Tile';

type Panel = 'settings' | 'participants' | null;

export function Room({ app, room }: { app: App; room: Inside }) {
  const [panel, setPanel] = useState<Panel>(null);
  const [blocked, setBlocked] = useState(false);
  const [view, setView] = useState<View | 'auto'>('auto');
  const [pinned, setPinned] = useState<SourceOf | null>(null);
  const [page, setPage] = useState(0);
  const [perPage, setPerPage] = useState(PAGE);
  const stage = useRef<HTMLElement>(null);
  const { element: area, size } = useSize<HTMLDivElement>();
  const hidden = useHidden();
  const { membership } = room;
  const order = app.room.order.value;
  const remote = app.room.remote.value;
  const arranged = size && layout(membership, order, size, { view: pinned ? 'speaker' : view, pinned, page, perPage });

  const wish = arranged && wishes(membership, arranged, window.devicePixelRatio, hidden);
  // What goes beyond the slots will not come.
  const expected = wish?.show.slice(0, membership.grants.subscribe ? remote?.pictures.length : 0) ?? [];

  useEffect(() => {
    if (arranged === null || wish === null) return;
    app.room.show(wish);
    if (arranged.page !== page) setPage(arranged.page);
    if (arranged.page === 0) {
      const whole = arranged.view === 'speaker' || arranged.pages === 1;
      app.room.visible.value = whole ? Number.POSITIVE_INFINITY : arranged.tiles.length;
    }
  });
  useEffect(() => {
    stage.current?.focus();
  }, []);

  const toggle = (which: Panel) => setPanel(panel === which ? null : which);
  const turn = (by: number) => setPage(Math.min(Math.max(0, page + by), (arranged?.pages ?? 1) - 1));
  const toggleView = () => {
    setPage(0);
    setPinned(null);
    const shared = membership.participants.some((each) => each.media.screen === 'on');
    setView(arranged?.view === 'speaker' ? (shared ? 'grid' : 'auto') : shared ? 'auto' : 'speaker');
  };
  const leave = () => app.leaveRoom();
  useShortcuts([
    { key: 's', run: () => toggle('settings') },
    { key: 'p', run: () => toggle('participants') },
    { key: 'g', run: toggleView },
    { key: 'pagedown', run: () => turn(1) },
    { key: 'pageup', run: () => turn(-1) },
    { key: 'ctrl+h', run: leave },
  ]);
  const showMore = () => {
    setPerPage(LARGE_PAGE);
    app.room.showMore(MAX_VIDEO_SLOTS).catch(() => app.notify('The server has no room for more pictures.', 'warning'));
  };
  const pin = (source: SourceOf) => {
    setPage(0);
    setPinned(pinned !== null && isSame(pinned, source) ? null : source);
  };
  const cannotSend = remote !== null && remote.abilities.send === null ? 'This browser cannot send AV1 pictures' : null;
  const draw = (placed: Layout['tiles'][number]) => (
    <Tile
      key={`${placed.source.participant}:${placed.source.kind}`}
      app={app}
      membership={membership}
      placed={placed}
      expected={expected.some((each) => isSame(each.source, placed.source))}
      pinned={pinned !== null && isSame(pinned, placed.source)}
      onPin={() => pin(placed.source)}
      cannotSend={cannotSend}
    />
  );
  const count = membership.participants.length;
  return (
    <main
      ref={stage}
      tabIndex={-1}
      class="stage stage-room"
      style={{ '--hue': String(hue(room.room)) } as CSSProperties}
      aria-label={`Room ${room.room}`}
    >
      {remote?.sound.map((stream) => (
        <Sound
          key={stream.id}
          stream={stream}
          speaker={app.media.choice.value.speaker}
          onBlocked={() => setBlocked(true)}
        />
      ))}

      <header class="room-head">
        <div class="call-who">
          <span class="call-name">{room.room}</span>
          <span class="call-time">{count === 1 ? 'Only you so far' : `${count} people`}</span>
        </div>
        {membership.state.locked && (
          <span class="chip">
            <Icon name="lock" size={16} />
            <span class="chip-words">Locked</span>
          </span>
        )}
        {count === 1 && <InviteChip room={room.room} />}
        <HeadButton
          icon={arranged?.view === 'speaker' ? 'grid' : 'speakerView'}
          label={arranged?.view === 'speaker' ? 'Show everybody alike' : 'Show the speaker large'}
          shortcut="G"
          onClick={toggleView}
        />
        <HeadButton
          icon="people"
          label="Participants"
          shortcut="P"
          expanded={panel === 'participants'}
          onClick={() => toggle('participants')}
        />
      </header>

      <div ref={area} class="room-area">
        {arranged !== null && (
          <ul class="tiles" aria-label="Pictures">
            {(arranged.main === null ? arranged.tiles : [arranged.main, ...arranged.tiles]).map(draw)}
          </ul>
        )}
      </div>
      {arranged !== null && arranged.pages > 1 && (
        <Pager layout={arranged} onTurn={turn} onMore={mayShowMore(arranged, perPage) ? showMore : null} />
      )}

      <Banner words={bannerWords(app, room)} />
      {panel === 'settings' && <SettingsPanel app={app} onClose={() => setPanel(null)} />}
      {panel === 'participants' && (
        <ParticipantsPanel app={app} membership={membership} onClose={() => setPanel(null)} />
      )}
      {blocked && <UnblockSound onDone={() => setBlocked(false)} />}

      <div class="controls" role="toolbar" aria-label="Call controls">
        <MediaButtons app={app} cameraProblem={cannotSend} />
        {app.screen.possible && cannotSend === null && <ScreenButton app={app} />}
        <RoundButton
          icon="settings"
          label="Devices"
          shortcut="S"
          expanded={panel === 'settings'}
          onClick={() => toggle('settings')}
        />
        <FullscreenButton element={stage} />
        <RoundButton icon="hangUp" label="Leave" shortcut="Ctrl+H" tone="stop" onClick={leave} />
      </div>
    </main>
  );
}

/** Whether the page is short of pictures rather than of space. */
function mayShowMore({ view, tiles, page }: Layout, perPage: number): boolean {
  return perPage < LARGE_PAGE && view === 'grid' && (page > 0 || tiles.length === perPage);
}

function InviteChip({ room }: { room: RoomId }) {
  const { copied, copy } = useCopy(invitation(room));
  return (
    <button type="button" class="chip chip-invite" aria-label={copied ? undefined : 'Copy invite link'} onClick={copy}>
      <Icon name={copied ? 'check' : 'link'} size={18} />
      {copied ? (
        'Copied'
      ) : (
        <>
          <span class="chip-words">Copy invite link</span>
          <span class="chip-brief">Invite</span>
        </>
      )}
    </button>
  );
}

function HeadButton(props: { icon: IconName; label: string; shortcut: string; expanded?: boolean; onClick(): void }) {
  return (
    <span class="round">
      <button
        type="button"
        class="chip chip-button"
        aria-label={props.label}
        aria-expanded={props.expanded}
        aria-keyshortcuts={props.shortcut}
        onClick={props.onClick}
      >
        <Icon name={props.icon} size={20} />
      </button>
      <span class="tip tip-below" aria-hidden="true">
        {props.label}
        <kbd>{props.shortcut}</kbd>
      </span>
    </span>
  );
}

function ScreenButton({ app }: { app: App }) {
  const on = app.screen.track.value !== null;
  const toggle = () => {
    if (on) app.screen.stop();
    else void app.screen.start().then((problem) => problem !== null && app.notify(problem, 'warning'));
  };
  useShortcuts([{ key: 'd', run: toggle }]);
  return (
    <RoundButton
      icon={on ? 'screenOff' : 'screen'}
      label={on ? 'Stop sharing the screen' : 'Share the screen'}
      shortcut="D"
      pressed={on}
      onClick={toggle}
    />
  );
}

function Pager(props: { layout: Layout; onTurn(by: number): void; onMore: (() => void) | null }) {
  const { page, pages } = props.layout;
  return (
    <nav class="pager" aria-label="Pages of pictures">
      <button
        type="button"
        class="icon-button"
        aria-label="Page before"
        aria-keyshortcuts="PageUp"
        disabled={page === 0}
        onClick={() => props.onTurn(-1)}
      >
        <Icon name="back" size={20} />
      </button>
      <span role="status">
        <span class="unseen">Page </span>
        {page + 1} of {pages}
      </span>
      <button
        type="button"
        class="icon-button"
        aria-label="Next page"
        aria-keyshortcuts="PageDown"
        disabled={page === pages - 1}
        onClick={() => props.onTurn(1)}
      >
        <Icon name="next" size={20} />
      </button>
      {props.onMore !== null && (
        <button type="button" class="text-button" onClick={props.onMore}>
          Smaller pictures, more on a page
        </button>
      )}
    </nav>
  );
}

function bannerWords(app: App, { connection, failures }: Inside): string | null {
  if (app.connection.value.kind === 'reconnecting') {
    return connection.phase === 'connected'
      ? 'The server cannot be reached; the room goes on.'
      : 'The server cannot be reached. Trying again…';
  }
  switch (connection.phase) {
    case 'connected':
      return null;
    case 'connecting':
      return failures === 0 ? 'Connecting…' : 'Reconnecting…';
    default:
      return 'Reconnecting…';
  }
}
