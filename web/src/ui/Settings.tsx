import { useEffect, useState } from 'preact/hooks';
import type { App } from '../app';
import type { Choice } from '../media/local';
import { type Problem, short } from '../media/problems';
import { useLevel } from './hooks';
import { Icon, type IconName } from './Icon';
import { Panel } from './Panel';

const SINKS = 'setSinkId' in HTMLMediaElement.prototype;

export function SettingsPanel({ app, onClose }: { app: App; onClose(): void }) {
  const { media } = app;
  const inCall = media.audio.value !== null;
  const preview = usePreview(inCall ? null : media.choice.value.microphone, !inCall);
  const meter = useLevel<HTMLDivElement>(media.audio.value ?? preview);
  useEffect(() => void media.refreshDevices(), [preview]);
  const problems = media.problems.value;
  return (
    <Panel title="Devices" class="panel-settings" onClose={onClose}>
      <DeviceSelect app={app} kind="audioinput" choice="microphone" icon="microphone" problem={problems.microphone} />
      <div ref={meter} class="meter" role="img" aria-label="Microphone level">
        <span />
      </div>
      <DeviceSelect app={app} kind="videoinput" choice="camera" icon="camera" problem={problems.camera} />
      {SINKS && <DeviceSelect app={app} kind="audiooutput" choice="speaker" icon="speaker" problem={null} />}
    </Panel>
  );
}

const NAMES: Record<keyof Choice, string> = { microphone: 'Microphone', camera: 'Camera', speaker: 'Speaker' };

function DeviceSelect(props: {
  app: App;
  kind: MediaDeviceKind;
  choice: keyof Choice;
  icon: IconName;
  problem: Problem | null;
}) {
  const { media } = props.app;
  // Until a device was opened once, the browser lists devices without id and name.
  const devices = media.devices.value.filter((each) => each.kind === props.kind && each.deviceId !== '');
  const chosen = media.choice.value[props.choice];
  const known = devices.some((each) => each.deviceId === chosen);
  return (
    <label class="device">
      <span class="device-name">
        <Icon name={props.icon} size={18} />
        {NAMES[props.choice]}
        {props.problem !== null && <span class="device-problem">{short(props.problem)}</span>}
      </span>
      <select
        value={known ? (chosen ?? '') : ''}
        onChange={(event) => void media.choose(props.choice, event.currentTarget.value || null)}
      >
        <option value="">Chosen by the system</option>
        {devices
          .filter((each) => each.deviceId !== 'default' && each.deviceId !== 'communications')
          .map((each, index) => (
            <option key={each.deviceId} value={each.deviceId}>
              {each.label || `${NAMES[props.choice]} ${index + 1}`}
            </option>
          ))}
      </select>
    </label>
  );
}

/** Outside a call: the microphone, open as long as the panel shows its level. */
function usePreview(microphone: string | null, wanted: boolean): MediaStreamTrack | null {
  const [track, setTrack] = useState<MediaStreamTrack | null>(null);
  useEffect(() => {
    if (!wanted) return;
    let over = false;
    let opened: MediaStreamTrack | null = null;
    navigator.mediaDevices
      ?.getUserMedia({ audio: microphone === null ? true : { deviceId: { ideal: microphone } } })
      .then(
        (stream) => {
          opened = stream.getAudioTracks()[0] ?? null;
          if (over) opened?.stop();
          else setTrack(opened);
        },
        () => {},
      );
    return () => {
      over = true;
      opened?.stop();
      setTrack(null);
    };
  }, [microphone, wanted]);
  return track;
}
