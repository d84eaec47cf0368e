import type { CSSProperties } from 'preact';

/** A person as initials on a colour of their own. */
export function Avatar({ name, size }: { name: string; size: 'small' | 'large' }) {
  const style = { '--hue': String(hue(name)) } as CSSProperties;
  return (
    <span class={`avatar avatar-${size}`} style={style} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

/** One or two letters. */
export function initials(name: string): string {
  const words = name.split(/[\s._\-@+]+/u).filter((word) => word !== '');
  const first = [...(words[0] ?? '?')][0] ?? '?';
  const last = words.length > 1 ? ([...(words[words.length - 1] ?? '')][0] ?? '') : '';
  return (first + last).toLocaleUpperCase();
}

/** The same name always has the same colour. */
export function hue(name: string): number {
  let hash = 2166136261;
  for (const char of name) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 16777619);
  return (hash >>> 0) % 360;
}
