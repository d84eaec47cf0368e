// The page as a person uses it: everything is found by its role and its name.

export async function signIn(page, url, name) {
  await page.goto(url);
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
}

export async function call(page, name, { camera = true } = {}) {
  await page.getByRole('button', { name: `Call ${name} ${camera ? 'with' : 'without'} camera`, exact: true }).click();
}

export async function answer(page, { camera = true } = {}) {
  await page.getByRole('button', { name: camera ? 'Answer with camera' : 'Answer without camera' }).click();
}

export async function inCall(page) {
  await page.getByRole('timer', { name: 'Duration of the call' }).waitFor();
}

export async function control(page, name) {
  await page.mouse.move(300, 300);
  await page.mouse.move(320, 310);
  await page.getByRole('toolbar', { name: 'Call controls' }).getByRole('button', { name, exact: true }).click();
}

export async function isIdle(page) {
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
}

/** Two participants in a call with each other. */
export async function connect(caller, callee, calleeName, media = {}) {
  await call(caller, calleeName, media.caller);
  await answer(callee, media.callee);
  await Promise.all([inCall(caller), inCall(callee)]);
}

/** To the door of a room, from the list of people, and in. */
export async function joinRoom(page, room) {
  await page.getByLabel('Room name').fill(room);
  await page.getByRole('button', { name: 'Open room' }).click();
  await passDoor(page, room);
}

/** Through the door of a room. */
export async function passDoor(page, room) {
  await page.getByRole('button', { name: `Join ${room}`, exact: true }).click();
  await page.getByRole('main', { name: `Room ${room}` }).waitFor();
}

/** Somebody's tile in a room, or that of their screen. */
export function tile(page, name) {
  return page.locator('.tile').filter({ has: page.locator('.tile-label').getByText(name, { exact: true }) });
}

/** Waits until their picture is there, and says which element shows it. */
export async function pictureOf(page, name) {
  const source = await tile(page, name).getAttribute('data-source');
  const selector = `[data-source="${source}"] video.tile-picture:not(.tile-hidden)`;
  await page.locator(selector).waitFor();
  return selector;
}

/** In the page: `window.watch(video)` keeps the luma strip (the top eighth) of every picture that the element presents. */
function installWatch() {
  window.watch ??= (video) => {
    const canvas = document.createElement('canvas');
    const pictures = [];
    let over = false;
    let last = null;
    const look = () => {
      if (over) return;
      const [width, height] = [video.videoWidth, video.videoHeight];
      // What is drawn is what the element presents by now: called late, two calls would draw one and the same picture.
      const frame = width > 0 ? new VideoFrame(video) : null;
      if (frame !== null && frame.timestamp !== last) {
        last = frame.timestamp;
        const rows = Math.ceil(height / 8);
        canvas.width = width;
        canvas.height = rows;
        const paint = canvas.getContext('2d', { willReadFrequently: true });
        paint.drawImage(frame, 0, 0, width, rows, 0, 0, width, rows);
        const { data } = paint.getImageData(0, 0, width, rows);
        // Back to limited-range luma, a value a cell's middle: 16 x 2 means.
        const means = [];
        for (let cell = 0; cell < 32; cell++) {
          const [row, column] = [cell >> 4, cell & 15];
          let sum = 0;
          let count = 0;
          for (let y = Math.floor(((4 * row + 1) * height) / 64); y < Math.floor(((4 * row + 3) * height) / 64); y++) {
            for (let x = Math.floor(((4 * column + 1) * width) / 64); x < Math.floor(((4 * column + 3) * width) / 64); x++) {
              const at = (y * width + x) * 4;
              sum += 0.2126 * data[at] + 0.7152 * data[at + 1] + 0.0722 * data[at + 2];
              count += 1;
            }
          }
          means.push(16 + ((sum / count) * 219) / 255);
        }
        pictures.push({ width, height, means });
      }
      frame?.close();
      video.requestVideoFrameCallback(look);
    };
    video?.requestVideoFrameCallback(look);
    return () => {
      over = true;
      return pictures;
    };
  };
}

/** What each of these elements presents for `ms`, all at the same time: the luma strips of its pictures. */
export async function watch(page, ms, selectors) {
  await page.evaluate(installWatch);
  return page.evaluate(
    async ({ ms, selectors }) => {
      const watched = selectors.map((selector) => window.watch(document.querySelector(selector)));
      await new Promise((resolve) => setTimeout(resolve, ms));
      return watched.map((end) => end());
    },
    { ms, selectors },
  );
}

/**
 * What the page plays and shows of the other side, for `ms`: the sound of each element as samples, the first one's also as
 * `samples`, and for every picture that `picture` presents its luma strip (the top eighth) as read from a canvas.
 */
export async function observe(page, ms, { picture = 'video.remote-picture' } = {}) {
  await page.evaluate(installWatch);
  const taken = await page.evaluate(async ({ ms, picture }) => {
    const playing = [...document.querySelectorAll('audio')].filter((audio) => audio.srcObject?.getAudioTracks().length > 0);
    const recordings = playing.map((audio) => {
      const chunks = [];
      // A worklet's module would have to come from the server: its policy allows no other scripts.
      const track = audio.srcObject.getAudioTracks()[0].clone();
      const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 200 }).readable.getReader();
      const read = async () => {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return;
          const chunk = new Float32Array(value.numberOfFrames);
          value.copyTo(chunk, { planeIndex: 0, format: 'f32-planar' });
          chunks.push({ rate: value.sampleRate, samples: chunk });
          value.close();
        }
      };
      return { chunks, reader, over: read() };
    });

    const watched = window.watch(document.querySelector(picture));
    await new Promise((resolve) => setTimeout(resolve, ms));
    const pictures = watched();
    for (const { reader, over } of recordings) {
      await reader.cancel();
      await over;
    }
    // As base64 of 16-bit samples: an array of numbers would take long to cross.
    const sounds = recordings.map(({ chunks }) => {
      const samples = new Int16Array(chunks.reduce((sum, chunk) => sum + chunk.samples.length, 0));
      let at = 0;
      for (const chunk of chunks) {
        for (const sample of chunk.samples) samples[at++] = Math.max(-1, Math.min(1, sample)) * 32767;
      }
      const bytes = new Uint8Array(samples.buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 32_768) text += String.fromCharCode(...bytes.subarray(i, i + 32_768));
      return { text: btoa(text), rate: chunks[0]?.rate ?? 48_000 };
    });
    return { sounds, pictures };
  }, { ms, picture });
  const sounds = taken.sounds.map(({ text, rate }) => {
    const bytes = Buffer.from(text, 'base64');
    const samples = new Float32Array(bytes.length / 2);
    for (let i = 0; i < samples.length; i++) samples[i] = bytes.readInt16LE(i * 2) / 32768;
    return { samples, rate };
  });
  return { ...sounds[0], sounds, pictures: taken.pictures };
}
