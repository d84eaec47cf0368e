import { useEffect, useRef, useState } from 'preact/hooks';

/** Cropping up to this share of a picture to fill the screen is better than bars around it. */
const MAY_CROP = 0.2;

/** Fills the element where little is lost by it, else shows the whole picture. */
function fitPicture(video: HTMLVideoElement): void {
  const { videoWidth, videoHeight, clientWidth, clientHeight } = video;
  if (videoWidth === 0 || clientHeight === 0) return;
  const ratio = videoWidth / videoHeight / (clientWidth / clientHeight);
  const lost = 1 - Math.min(ratio, 1 / ratio);
  video.style.setProperty('--fit', lost <= MAY_CROP ? 'cover' : 'contain');
}

/**
 * Whether a picture that was received since `on` became true is there. A video element keeps its last picture, which
 * would otherwise flash up when a camera comes back.
 */
function useFreshPicture(element: { readonly current: HTMLVideoElement | null }, on: boolean): boolean {
  const [fresh, setFresh] = useState(false);
  useEffect(() => {
    setFresh(false);
    const video = element.current;
    if (!on || video === null) return;
    if (!('requestVideoFrameCallback' in video)) {
      setFresh(true);
      return;
    }
    const since = performance.now();
    const look = (_now: number, { receiveTime }: VideoFrameCallbackMetadata) => {
      if (receiveTime === undefined || receiveTime >= since) setFresh(true);
      else request = video.requestVideoFrameCallback(look);
    };
    let request = video.requestVideoFrameCallback(look);
    return () => video.cancelVideoFrameCallback(request);
  }, [on]);
  return on && fresh;
}

/** A stream's picture while it is `on`. Its sound, where it has any, is played by {@link Sound}. */
export function Picture({
  stream,
  label,
  class: className,
  on = true,
  onShown,
}: {
  stream: MediaStream;
  label: string;
  class: string;
  on?: boolean;
  /** Told when there is something to see, and when there no longer is. */
  onShown?(shown: boolean): void;
}) {
  const video = useRef<HTMLVideoElement>(null);
  const shown = useFreshPicture(video, on);
  useEffect(() => onShown?.(shown), [shown]);
  useEffect(() => {
    if (video.current !== null && video.current.srcObject !== stream) video.current.srcObject = stream;
  }, [stream]);
  useEffect(() => {
    const element = video.current;
    if (element === null) return;
    const refit = () => fitPicture(element);
    const observer = new ResizeObserver(refit);
    observer.observe(element);
    element.addEventListener('resize', refit);
    return () => {
      observer.disconnect();
      element.removeEventListener('resize', refit);
    };
  }, []);
  return (
    <video
      ref={video}
      class={shown ? className : `${className} picture-hidden`}
      aria-label={label}
      autoplay
      playsInline
      muted
      disablePictureInPicture
    />
  );
}

/** A stream's sound, on a speaker. */
export function Sound({
  stream,
  speaker,
  onBlocked,
}: {
  stream: MediaStream;
  speaker: string | null;
  onBlocked(): void;
}) {
  const audio = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const element = audio.current;
    if (element === null) return;
    element.srcObject = stream;
    element.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') onBlocked();
    });
  }, [stream]);
  useEffect(() => {
    const element = audio.current;
    if (element === null || !('setSinkId' in element)) return;
    element.setSinkId(speaker ?? '').catch(() => element.setSinkId('').catch(() => {}));
  }, [speaker]);
  // biome-ignore lint/a11y/useMediaCaption: a live call has no captions
  return <audio ref={audio} autoplay />;
}
