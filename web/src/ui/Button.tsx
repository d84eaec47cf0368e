import type { ComponentChildren, Ref } from 'preact';
import { Icon, type IconName } from './Icon';

interface RoundButtonProps {
  icon: IconName;
  /** What it does, for everybody. */
  label: string;
  /** The key that does the same. */
  shortcut?: string;
  tone?: 'plain' | 'go' | 'stop' | 'quiet';
  /** For a switch: whether it is on. */
  pressed?: boolean;
  expanded?: boolean;
  size?: 'medium' | 'large';
  /** Shown below the button; else a tooltip says it. */
  caption?: string;
  buttonRef?: Ref<HTMLButtonElement>;
  disabled?: boolean;
  onClick(): void;
}

/** A round button with an icon, as on a telephone. */
export function RoundButton(props: RoundButtonProps) {
  const { tone = 'plain', size = 'medium', shortcut, caption } = props;
  return (
    <span class="round">
      <button
        ref={props.buttonRef ?? null}
        type="button"
        class={`round-button tone-${tone} size-${size}`}
        aria-label={props.label}
        aria-pressed={props.pressed}
        aria-expanded={props.expanded}
        aria-keyshortcuts={shortcut?.replace('Ctrl', 'Control')}
        disabled={props.disabled}
        onClick={props.onClick}
      >
        <Icon name={props.icon} size={size === 'large' ? 30 : 24} />
      </button>
      {caption !== undefined && (
        <span class="round-caption" aria-hidden="true">
          {caption}
          {shortcut !== undefined && <kbd>{shortcut}</kbd>}
        </span>
      )}
      {caption === undefined && (
        <span class="tip" aria-hidden="true">
          {props.label}
          {shortcut !== undefined && <kbd>{shortcut}</kbd>}
        </span>
      )}
    </span>
  );
}

/** An ordinary button with words. */
export function Button(props: {
  children: ComponentChildren;
  tone?: 'primary' | 'plain';
  type?: 'submit' | 'button';
  disabled?: boolean;
  buttonRef?: Ref<HTMLButtonElement>;
  onClick?(): void;
}) {
  return (
    <button
      ref={props.buttonRef ?? null}
      type={props.type ?? 'button'}
      class={`button button-${props.tone ?? 'plain'}`}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      {props.children}
    </button>
  );
}
