import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { watchLevel } from '../media/level';

/** The current time, anew every `everyMs`. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Writes a track's level into the CSS variable `--level` of an element, without rendering anything. */
export function useLevel<E extends HTMLElement>(track: MediaStreamTrack | null) {
  const element = useRef<E>(null);
  useEffect(() => {
    if (track === null) {
      element.current?.style.setProperty('--level', '0');
      return;
    }
    return watchLevel(track, (level) => element.current?.style.setProperty('--level', level.toFixed(3)));
  }, [track]);
  return element;
}

/** The size of an element's inside, in CSS pixels; `null` before it is known. */
export function useSize<E extends HTMLElement>() {
  const element = useRef<E>(null);
  const [size, setSize] = useState<{ width: number; height: number } | null>(null);
  useLayoutEffect(() => {
    const measured = element.current;
    if (measured === null) return;
    const measure = () => setSize({ width: measured.clientWidth, height: measured.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(measured);
    return () => observer.disconnect();
  }, []);
  return { element, size };
}

/** Whether nobody can see the page. */
export function useHidden(): boolean {
  const [hidden, setHidden] = useState(document.hidden);
  useEffect(() => {
    const changed = () => setHidden(document.hidden);
    document.addEventListener('visibilitychange', changed);
    return () => document.removeEventListener('visibilitychange', changed);
  }, []);
  return hidden;
}

/** Puts the focus on an element when it appears, and back where it was when it goes: at once, so that no key goes astray. */
export function useFocusOnMount<E extends HTMLElement>() {
  const element = useRef<E>(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    element.current?.focus();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return element;
}

export interface Shortcut {
  /** As `KeyboardEvent.key`, lower case; `ctrl+` before it where that is needed. */
  key: string;
  run(): void;
}

/** Keys that work wherever the focus is, but for fields one types in. */
export function useShortcuts(shortcuts: Shortcut[]): void {
  const current = useRef(shortcuts);
  current.current = shortcuts;
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.repeat || event.altKey || event.metaKey || isTyping(event.target)) return;
      const key = (event.ctrlKey ? 'ctrl+' : '') + event.key.toLowerCase();
      const found = current.current.find((each) => each.key === key);
      if (found === undefined) return;
      event.preventDefault();
      found.run();
    };
    window.addEventListener('keydown', pressed);
    return () => window.removeEventListener('keydown', pressed);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement
  );
}
