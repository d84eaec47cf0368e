import type { CSSProperties, RefObject } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { App } from '../../app';
import type { SourceOf } from '../../protocol/types';
import type { Placed } from '../../room/layout';
import { csrcOf, find, type Membership, slotOf } from '../../room/membership';
import type { PictureSlot } from '../../room/peer';
import { Avatar, hue } from '../Avatar';
import { Icon } from '../Icon';
import { Picture } from '../Picture';

/** A face may lose more of what is around it than a screen of its edges, and more of its sides than of its hair and chin. */
const FACE_MAY_CROP = { sides: 0.6, ends: 0.45 };
const SCREEN_MAY_CROP = { sides: 0, ends: 0 };
/** Where the browser does not say whose pictures they are, the first ones after this time are taken for the right ones. */
const BELIEVED_AFTER_MS = 700;

interface TileProps {
  app: App;
  membership: Membership;
  placed: Placed;
  /** Whether its picture is on the way. */
  expected: boolean;
  pinned: boolean;
  onPin(): void;
  /** Why one's own picture reaches nobody; `null` where it does. */
  cannotSend: string | null;
}

/** A person, or somebody's screen. */
export function Tile({ app, membership, placed, expected, pinned, onPin, cannotSend }: TileProps) {
  const { source, at, size, main } = placed;
  const participant = find(membership, source.participant);
  if (participant === undefined) return null;
  const mine = source.participant === membership.you;
  const screen = source.kind === 'screen';
  const name = screen ? `${participant.display_name}’s screen` : mine ? 'You' : participant.display_name;
  const speaking = !screen && membership.speaker === source.participant;
  const muted = participant.media.microphone !== 'on';
  const style = {
    left: `${at.left}px`,
    top: `${at.top}px`,
    width: `${size.width}px`,
    height: `${size.height}px`,
    '--hue': String(hue(participant.user)),
  };
  const small = size.width < 240;
  const pin = pinned ? `Unpin ${name}` : `Pin ${name}`;
  return (
    <li
      class={`tile${main ? ' tile-main' : ''}${speaking ? ' tile-speaking' : ''}${small ? ' tile-small' : ''}${screen ? ' tile-screen' : ''}`}
      style={style as CSSProperties}
      data-source={`${source.participant}:${source.kind}`}
    >
      {mine ? (
        <OwnPicture app={app} name={participant.display_name} cannotSend={cannotSend} />
      ) : (
        <TheirPicture
          app={app}
          membership={membership}
          source={source}
          name={participant.display_name}
          expected={expected}
        />
      )}
      <span class="tile-name">
        {!screen && muted && (
          <span class="tile-muted" role="img" aria-label="Muted">
            <Icon name="microphoneOff" size={small ? 14 : 16} />
          </span>
        )}
        {screen && <Icon name="screen" size={16} />}
        <span class="tile-label">{name}</span>
        {participant.reach === 'lost' && (
          <span class="tile-lost" role="img" aria-label="Connection lost">
            <Icon name="offline" size={16} />
          </span>
        )}
        {speaking && <span class="unseen">speaking</span>}
      </span>
      <button type="button" class="tile-pin" aria-label={pin} aria-pressed={pinned} title={pin} onClick={onPin}>
        <Icon name={pinned ? 'pinOff' : 'pin'} size={18} />
      </button>
    </li>
  );
}

function OwnPicture({ app, name, cannotSend }: { app: App; name: string; cannotSend: string | null }) {
  const track = cannotSend === null ? app.media.video.value : null;
  const stream = useMemo(() => (track === null ? null : new MediaStream([track])), [track]);
  if (stream === null) return <NoPicture name={name} words={cannotSend} />;
  return <Picture stream={stream} label="Your picture" class="tile-picture tile-own" mayCrop={FACE_MAY_CROP} />;
}

function TheirPicture(props: { app: App; membership: Membership; source: SourceOf; name: string; expected: boolean }) {
  const { app, membership, source, name } = props;
  const video = useRef<HTMLVideoElement>(null);
  const participant = find(membership, source.participant);
  const remote = app.room.remote.value;
  const sent = participant?.media[source.kind] === 'on';
  const mid = sent ? slotOf(membership, source) : null;
  const slot = remote?.pictures.find((each) => each.mid === mid) ?? null;
  const there = usePresented(video, slot, csrcOf(source));
  const words = !sent
    ? null
    : remote !== null && !remote.abilities.receive
      ? 'This browser cannot show AV1 pictures'
      : props.expected
        ? 'Waiting for picture…'
        : null;
  const label = source.kind === 'screen' ? `${name}’s screen` : `${name}’s picture`;
  return (
    <>
      {slot !== null && (
        <Picture
          stream={slot.stream}
          label={label}
          class={there ? 'tile-picture' : 'tile-picture tile-hidden'}
          mayCrop={source.kind === 'screen' ? SCREEN_MAY_CROP : FACE_MAY_CROP}
          videoRef={video}
        />
      )}
      {!there && <NoPicture name={name} words={words} />}
    </>
  );
}

function NoPicture({ name, words }: { name: string; words: string | null }) {
  return (
    <div class="tile-none">
      <Avatar name={name} size="large" />
      {words !== null && <span class="tile-words">{words}</span>}
    </div>
  );
}

/**
 * Whether the slot's picture is that of the source with this number: the map of slots and the packets race each other, and
 * nobody's picture may stand under another's name.
 */
function usePresented(video: RefObject<HTMLVideoElement | null>, slot: PictureSlot | null, csrc: number): boolean {
  const [presented, setPresented] = useState<string | null>(null);
  const wanted = slot === null ? null : `${slot.mid} ${csrc}`;
  useEffect(() => {
    const element = video.current;
    if (slot === null || element === null) return;
    const since = performance.now();
    let over = false;
    const look = () => {
      if (over) return;
      const shows = slot.shows();
      const believed = shows === null && performance.now() - since > BELIEVED_AFTER_MS;
      if (shows === csrc || believed) setPresented(`${slot.mid} ${csrc}`);
      else wait();
    };
    const wait = () => {
      if ('requestVideoFrameCallback' in element) element.requestVideoFrameCallback(look);
      else setTimeout(look, 100);
    };
    wait();
    return () => {
      over = true;
      setPresented(null);
    };
  }, [wanted, slot?.stream]);
  return wanted !== null && presented === wanted;
}
