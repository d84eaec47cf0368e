import { useRef, useState } from 'preact/hooks';
import type { App } from '../app';
import type { Presence } from '../protocol/types';
import { Avatar } from './Avatar';
import { Button } from './Button';
import { useCopy } from './controls';
import { useShortcuts } from './hooks';
import { Icon } from './Icon';
import { OpenRoom } from './OpenRoom';
import { SettingsPanel } from './Settings';

/** From this many on a search field is worth its place. */
const SEARCH_FROM = 6;

export function People({ app }: { app: App }) {
  const [search, setSearch] = useState('');
  const [settings, setSettings] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useShortcuts([{ key: '/', run: () => field.current?.focus() }]);
  const others = app.others.value;
  const wanted = search.trim().toLocaleLowerCase();
  const found = others.filter((each) => `${each.display_name} ${each.user}`.toLocaleLowerCase().includes(wanted));
  const me = app.me.value;
  if (me === null) return null;

  return (
    <div class="home">
      <header class="bar">
        <img src="./icon.svg" alt="" width="32" height="32" />
        <span class="bar-title">Halloo</span>
        <span class="bar-me">
          <Avatar name={me.name} size="small" />
          <span class="bar-name">{me.name}</span>
        </span>
        <button
          type="button"
          class="icon-button"
          aria-label="Microphone, camera and speaker"
          aria-expanded={settings}
          onClick={() => setSettings(!settings)}
        >
          <Icon name="settings" size={20} />
        </button>
        <button type="button" class="icon-button" aria-label="Sign out" onClick={() => app.signOut()}>
          <Icon name="signOut" size={20} />
        </button>
        {settings && <SettingsPanel app={app} onClose={() => setSettings(false)} />}
      </header>
      <Connection app={app} />
      <main class="people">
        <div class="people-head">
          <h1>{others.length === 0 ? 'People' : `${others.length} online`}</h1>
          <NotificationSwitch />
        </div>
        {others.length >= SEARCH_FROM && (
          <label class="search">
            <Icon name="search" size={20} />
            <input
              ref={field}
              type="search"
              value={search}
              placeholder="Search"
              aria-label="Search people"
              onInput={(event) => setSearch(event.currentTarget.value)}
            />
            <span aria-hidden="true">
              <kbd>/</kbd>
            </span>
          </label>
        )}
        {others.length === 0 ? (
          <Nobody />
        ) : found.length === 0 ? (
          <p class="empty-search" role="status">
            Nobody online is called “{search.trim()}”.
          </p>
        ) : (
          <ul class="list">
            {found.map((each) => (
              <Person key={each.user} app={app} person={each} />
            ))}
          </ul>
        )}
        <OpenRoom app={app} />
      </main>
    </div>
  );
}

function Person({ app, person }: { app: App; person: Presence }) {
  const party = { user: person.user, name: person.display_name };
  const offline = app.connection.value.kind !== 'online';
  return (
    <li class="person">
      <span class="person-avatar">
        <Avatar name={person.display_name} size="small" />
        <span class={person.in_call ? 'dot dot-busy' : 'dot'} aria-hidden="true" />
      </span>
      <span class="person-words">
        <span class="person-name">{person.display_name}</span>
        <span class="person-state">{person.in_call ? 'In a call' : 'Online'}</span>
      </span>
      <button
        type="button"
        class="call-button"
        disabled={offline}
        aria-label={`Call ${person.display_name} without camera`}
        onClick={() => app.calls.dial(party, false)}
      >
        <Icon name="phone" size={20} />
      </button>
      <button
        type="button"
        class="call-button call-button-video"
        disabled={offline}
        aria-label={`Call ${person.display_name} with camera`}
        onClick={() => app.calls.dial(party, true)}
      >
        <Icon name="camera" size={22} />
      </button>
    </li>
  );
}

function Nobody() {
  const address = location.origin + location.pathname;
  const { copied, copy } = useCopy(address);
  return (
    <div class="nobody">
      <span class="nobody-art" aria-hidden="true">
        <span />
        <span />
        <span />
      </span>
      <h2>Nobody else is here yet</h2>
      <p>People appear as soon as they sign in. Send them this address:</p>
      <p class="address">
        <code>{address}</code>
        <Button onClick={copy}>
          <Icon name={copied ? 'check' : 'copy'} size={18} />
          {copied ? 'Copied' : 'Copy'}
        </Button>
      </p>
    </div>
  );
}

function NotificationSwitch() {
  const supported = 'Notification' in window && window.isSecureContext;
  const [permission, setPermission] = useState(supported ? Notification.permission : 'denied');
  if (permission !== 'default') return null;
  return (
    <button type="button" class="text-button" onClick={() => void Notification.requestPermission().then(setPermission)}>
      <Icon name="bell" size={18} />
      Notify me of calls
    </button>
  );
}

function Connection({ app }: { app: App }) {
  if (app.connection.value.kind !== 'reconnecting') return null;
  return (
    <p class="strip" role="status">
      <span class="spinner" aria-hidden="true" />
      The server cannot be reached. Trying again…
    </p>
  );
}
