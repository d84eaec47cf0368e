import {
  Activity,
  Bell,
  Check,
  ChevronLeft,
  ChevronRight,
  CircleAlert,
  Copy,
  type IconNode,
  LayoutGrid,
  Link,
  Lock,
  LockOpen,
  LogOut,
  Maximize,
  Mic,
  MicOff,
  Minimize,
  MonitorUp,
  MonitorX,
  PanelRight,
  Phone,
  Pin,
  PinOff,
  Search,
  Settings,
  ShieldCheck,
  Users,
  UserX,
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
  back: ChevronLeft,
  bell: Bell,
  camera: Video,
  cameraOff: VideoOff,
  check: Check,
  close: X,
  copy: Copy,
  fullscreen: Maximize,
  fullscreenOff: Minimize,
  grid: LayoutGrid,
  hangUp: Phone,
  link: Link,
  lock: Lock,
  microphone: Mic,
  microphoneOff: MicOff,
  moderator: ShieldCheck,
  next: ChevronRight,
  offline: WifiOff,
  people: Users,
  phone: Phone,
  pin: Pin,
  pinOff: PinOff,
  remove: UserX,
  screen: MonitorUp,
  screenOff: MonitorX,
  search: Search,
  settings: Settings,
  signOut: LogOut,
  speaker: Volume2,
  speakerView: PanelRight,
  unlock: LockOpen,
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
