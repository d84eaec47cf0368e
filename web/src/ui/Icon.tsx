import {
  Activity,
  Bell,
  Check,
  CircleAlert,
  Copy,
  type IconNode,
  LogOut,
  Maximize,
  Mic,
  MicOff,
  Minimize,
  Phone,
  Search,
  Settings,
  Video,
  VideoOff,
  Volume2,
  WifiOff,
  X,
} from 'lucide';
import { createElement } from 'preact';

const ICONS = {
  activity: Activity,
  alert: CircleAlert,
  bell: Bell,
  camera: Video,
  cameraOff: VideoOff,
  check: Check,
  close: X,
  copy: Copy,
  fullscreen: Maximize,
  fullscreenOff: Minimize,
  hangUp: Phone,
  microphone: Mic,
  microphoneOff: MicOff,
  offline: WifiOff,
  phone: Phone,
  search: Search,
  settings: Settings,
  signOut: LogOut,
  speaker: Volume2,
} satisfies Record<string, IconNode>;

export type IconName = keyof typeof ICONS;

/** Decoration only: whatever carries it has a name of its own. */
export function Icon({ name, size = 24 }: { name: IconName; size?: number }) {
  return (
    <svg
      class={`icon icon-${name}`}
      width={size}
      height={size}
      viewBox="0 0 24 24"
      aria-hidden="true"
      focusable="false"
    >
      {ICONS[name].map(([tag, attributes]) => createElement(tag, attributes))}
    </svg>
  );
}
