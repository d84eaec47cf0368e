import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** Cropping up to this share of a picture to fill the screen is better than bars around it. */
const MAY_CROP = 0.2;

/** Fills the element where little is lost by it, else shows the whole picture. */
function fitPicture(video: HTMLVideoElement, mayCrop: number): void {
  const { videoWidth, videoHeight, clientWidth, clientHeight } = video;
  if (videoWidth === 0 || clientHeight === 0) return;
  const ratio = videoWidth / videoHeight / (clientWidth / clientHeight);
  const lost = 1 - Math.min(ratio, 1 / ratio);
  video.style.setProperty('--fit', lost <= mayCrop ? 'cover' : 'contain');
}

/** A stream's picture. Its sound, where it has any, is played by {@link Sound}. */
export function Picture(props: {
  stream: MediaStream;
  label: string;
  class: string;
  /** The share that may be cropped, 0 to 1. */
  mayCrop?: number;
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
