import type { RefObject } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

/** Which share of a picture may be cropped at its sides, or at its upper and lower ends, 0 to 1. */
export interface MayCrop {
  sides: number;
  ends: number;
}

/** Cropping up to this share of a picture to fill the screen is better than bars around it. */
const MAY_CROP: MayCrop = { sides: 0.2, ends: 0.2 };

/** Fills the element where little is lost by it, else shows the whole picture. */
function fitPicture(video: HTMLVideoElement, mayCrop: MayCrop): void {
  const { videoWidth, videoHeight, clientWidth, clientHeight } = video;
  if (videoWidth === 0 || clientHeight === 0) return;
  const ratio = videoWidth / videoHeight / (clientWidth / clientHeight);
  const lost = 1 - Math.min(ratio, 1 / ratio);
  const limit = ratio > 1 ? mayCrop.sides : mayCrop.ends;
  const cover = lost <= limit;
  video.style.setProperty('--fit', cover ? 'cover' : 'contain');
  // Faces are above the middle.
  video.style.setProperty('--at', cover ? '50% 30%' : '50% 50%');
}

/**
 * Whether a picture of `stream` that was received since `on` became true is there. A video element keeps its last picture,
 * which would otherwise flash up when a camera comes back.
 */
export function useFreshPicture(
  element: RefObject<HTMLVideoElement | null>,
  stream: MediaStream | null,
  on: boolean,
): boolean {
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
  }, [stream, on]);
  return on && fresh;
}

/** A stream's picture. Its sound, where it has any, is played by {@link Sound}. */
export function Picture(props: {
  stream: MediaStream;
  label: string;
  class: string;
  mayCrop?: MayCrop;
  videoRef?: RefObject<HTMLVideoElement | null>;
}) {
  const { stream, mayCrop = MAY_CROP } = props;
  const own = useRef<HTMLVideoElement>(null);
  const video = props.videoRef ?? own;
  useEffect(() => {
    if (video.current !== null && video.current.srcObject !== stream) video.current.srcObject = stream;
  }, [stream]);
  useEffect(() => {
    const element = video.current;
    if (element === null) return;
    const refit = () => fitPicture(element, mayCrop);
    refit();
    const observer = new ResizeObserver(refit);
    observer.observe(element);
    element.addEventListener('resize', refit);
    return () => {
      observer.disconnect();
      element.removeEventListener('resize', refit);
    };
  }, [mayCrop]);
  return (
    <video
      ref={video}
      class={props.class}
      aria-label={props.label}
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
