import { useMemo } from 'preact/hooks';
import type { App } from '../app';
import { Icon } from './Icon';
import { Picture } from './Picture';

/** One's own picture, mirrored as in a mirror. */
export function SelfView({ app }: { app: App }) {
  const track = app.media.video.value;
  const stream = useMemo(() => (track === null ? null : new MediaStream([track])), [track]);
  if (stream === null) return null;
  return (
    <div class="self">
      <Picture stream={stream} label="Your picture" class="self-picture" />
      {app.media.muted.value && (
        <span class="self-muted">
          <Icon name="microphoneOff" size={16} />
        </span>
      )}
    </div>
  );
}
