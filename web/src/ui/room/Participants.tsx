import { useEffect, useState } from 'preact/hooks';
import type { App } from '../../app';
import type { Participant } from '../../protocol/types';
import { invitation } from '../../room/invite';
import { type Membership, mayModerate } from '../../room/membership';
import { Avatar } from '../Avatar';
import { Button } from '../Button';
import { useCopy } from '../controls';
import { Icon, type IconName } from '../Icon';
import { Panel } from '../Panel';

/** A removal wants a second press within this time. */
const SURE_MS = 4_000;

/** Who is in the room, and for moderators what they may do about it. */
export function ParticipantsPanel(props: { app: App; membership: Membership; onClose(): void }) {
  const { app, membership } = props;
  const moderator = mayModerate(membership);
  const { locked } = membership.state;
  const { copied, copy } = useCopy(invitation(membership.room));
  return (
    <Panel title={`In the room (${membership.participants.length})`} class="panel-participants" onClose={props.onClose}>
      <div class="participants-head">
        <Button onClick={copy}>
          <Icon name={copied ? 'check' : 'link'} size={18} />
          {copied ? 'Copied' : 'Copy invite link'}
        </Button>
        {moderator && (
          <Button onClick={() => app.room.moderate({ type: 'lock', locked: !locked })}>
            <Icon name={locked ? 'unlock' : 'lock'} size={18} />
            {locked ? 'Unlock' : 'Lock'}
          </Button>
        )}
      </div>
      <ul class="participants">
        {membership.participants.map((each) => (
          <Row
            key={each.participant}
            app={app}
            participant={each}
            mine={each.participant === membership.you}
            moderator={moderator}
          />
        ))}
      </ul>
    </Panel>
  );
}

function Row(props: { app: App; participant: Participant; mine: boolean; moderator: boolean }) {
  const { app, participant, mine, moderator } = props;
  const { media, display_name: name } = participant;
  const source = (kind: 'microphone' | 'screen') => ({ participant: participant.participant, kind });
  return (
    <li class="participant">
      <Avatar name={name} size="small" />
      <span class="person-words">
        <span class="person-name">
          {name}
          {mine && ' (you)'}
        </span>
        <span class="person-state">{stateWords(participant)}</span>
      </span>
      {moderator && !mine && media.screen === 'on' && (
        <Action
          icon="screenOff"
          label={`Stop ${name}’s screen`}
          onClick={() => app.room.moderate({ type: 'mute', source: source('screen') })}
        />
      )}
      {moderator && !mine ? (
        <>
          {participant.role !== 'moderator' && (
            <Action
              icon="moderator"
              label={`Make ${name} a moderator`}
              onClick={() =>
                app.room.moderate({ type: 'set_role', participant: participant.participant, role: 'moderator' })
              }
            />
          )}
          <Action
            icon={media.microphone === 'on' ? 'microphone' : 'microphoneOff'}
            label={media.microphone === 'on' ? `Mute ${name}` : `${name} is muted`}
            disabled={media.microphone !== 'on'}
            onClick={() => app.room.moderate({ type: 'mute', source: source('microphone') })}
          />
          <Remove
            name={name}
            onRemove={() => app.room.moderate({ type: 'remove', participant: participant.participant })}
          />
        </>
      ) : (
        <span class="participant-state" role="img" aria-label={media.microphone === 'on' ? 'Microphone on' : 'Muted'}>
          <Icon name={media.microphone === 'on' ? 'microphone' : 'microphoneOff'} size={18} />
        </span>
      )}
    </li>
  );
}

function Action(props: { icon: IconName; label: string; disabled?: boolean; onClick(): void }) {
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={props.label}
      title={props.label}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      <Icon name={props.icon} size={18} />
    </button>
  );
}

function Remove({ name, onRemove }: { name: string; onRemove(): void }) {
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    if (!asked) return;
    const timer = setTimeout(() => setAsked(false), SURE_MS);
    return () => clearTimeout(timer);
  }, [asked]);
  const label = asked ? `Sure? Remove ${name}` : `Remove ${name}`;
  return (
    <button
      type="button"
      class={asked ? 'icon-button remove-sure' : 'icon-button'}
      aria-label={label}
      title={label}
      onClick={() => (asked ? onRemove() : setAsked(true))}
    >
      {asked ? 'Sure?' : <Icon name="remove" size={18} />}
    </button>
  );
}

function stateWords({ role, media, reach }: Participant): string {
  if (reach === 'lost') return 'Connection lost';
  const parts = [
    ...(role === 'moderator' ? ['Moderator'] : []),
    ...(media.screen === 'on' ? ['shares a screen'] : []),
    ...(media.camera === 'on' ? [] : ['camera off']),
  ];
  const words = parts.length === 0 ? 'Camera on' : parts.join(', ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
