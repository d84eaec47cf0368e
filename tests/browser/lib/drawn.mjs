// People who are not there: drawn, so that pictures of the screens look like calls.

/** Instead of the camera: a drawn person, so that the pictures look like calls. */
export function drawnCamera({ hue, width, height }) {
  navigator.mediaDevices.getUserMedia = async ({ audio, video }) => {
    const stream = new MediaStream();
    if (video) {
      const canvas = Object.assign(document.createElement('canvas'), { width, height });
      const paint = canvas.getContext('2d');
      const draw = () => {
        const t = performance.now() / 1000;
        const wall = paint.createLinearGradient(0, 0, width, height);
        wall.addColorStop(0, `hsl(${hue} 30% 72%)`);
        wall.addColorStop(1, `hsl(${hue + 40} 28% 42%)`);
        paint.fillStyle = wall;
        paint.fillRect(0, 0, width, height);
        paint.fillStyle = `hsl(${hue + 20} 30% 82% / 0.6)`;
        paint.fillRect(width * 0.08, height * 0.1, width * 0.22, height * 0.45);
        const x = width * (0.5 + 0.01 * Math.sin(t));
        const y = height * 0.44;
        const r = height * 0.19;
        paint.fillStyle = `hsl(${hue + 180} 35% 32%)`;
        paint.beginPath();
        paint.ellipse(x, height * 1.05, r * 2.1, r * 2.1, 0, 0, 7);
        paint.fill();
        paint.fillStyle = '#c98f6c';
        paint.fillRect(x - r * 0.35, y + r * 0.6, r * 0.7, r * 0.9);
        paint.fillStyle = '#3a2a22';
        paint.beginPath();
        paint.ellipse(x, y - r * 0.25, r * 0.98, r * 1.02, 0, 0, 7);
        paint.fill();
        paint.fillStyle = '#d9a07a';
        paint.beginPath();
        paint.ellipse(x, y + r * 0.08, r * 0.78, r * 0.95, 0, 0, 7);
        paint.fill();
        paint.fillStyle = '#2b1d18';
        for (const side of [-1, 1]) {
          paint.beginPath();
          paint.ellipse(x + side * r * 0.3, y, r * 0.07, r * 0.09, 0, 0, 7);
          paint.fill();
        }
        paint.lineWidth = r * 0.06;
        paint.strokeStyle = '#8f4a3c';
        paint.beginPath();
        paint.arc(x, y + r * 0.3, r * 0.3, 0.3, Math.PI - 0.3);
        paint.stroke();
      };
      draw();
      setInterval(draw, 50);
      stream.addTrack(canvas.captureStream(20).getVideoTracks()[0]);
    }
    if (audio) {
      const context = new AudioContext();
      const tone = context.createOscillator();
      const gain = context.createGain();
      gain.gain.value = 0.15;
      tone.frequency.value = 180;
      const out = context.createMediaStreamDestination();
      tone.connect(gain).connect(out);
      tone.start();
      stream.addTrack(out.stream.getAudioTracks()[0]);
    }
    return stream;
  };
}
