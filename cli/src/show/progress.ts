// Progress bars on standard error, on a terminal only; a quick transfer shows none.
import type { Progress } from '@stellwerk/client/uploads.ts';
import cliProgress from 'cli-progress';
import { surroundings } from '../surroundings.ts';
import { shownSize } from './values.ts';

interface Bar {
  onProgress: Progress;
  stop(): void;
}

const delayMs = 300;

function transferBar(title: string): Bar {
  if (!surroundings.showsProgress) return { onProgress: () => {}, stop: () => {} };
  const begun = Date.now();
  let bar: cliProgress.SingleBar | undefined;
  const onProgress: Progress = ({ doneBytes, totalBytes }) => {
    if (!bar && Date.now() - begun < delayMs) return;
    const payload = { done: shownSize(doneBytes), all: shownSize(totalBytes) };
    if (!bar) {
      bar = new cliProgress.SingleBar({
        format: `${title} {bar} {percentage}% {done} of {all}`,
        hideCursor: true,
        clearOnComplete: true,
        stopOnComplete: false,
        stream: process.stderr,
      });
      bar.start(Math.max(totalBytes, 1), doneBytes, payload);
    }
    bar.setTotal(Math.max(totalBytes, 1));
    bar.update(doneBytes, payload);
  };
  return { onProgress, stop: () => bar?.stop() };
}

/** Runs a transfer under a bar that goes away in every case. */
export async function withBar<T>(title: string, transfer: (onProgress: Progress) => Promise<T>): Promise<T> {
  const bar = transferBar(title);
  try {
    return await transfer(bar.onProgress);
  } finally {
    bar.stop();
  }
}

/** A long operation on one line of the terminal: how far it is, and what is being done. */
export function activityBar(title: string): {
  show(fraction: number | undefined, message: string): void;
  stop(): void;
} {
  const bar = new cliProgress.SingleBar({
    format: `${title} {bar} {message}`,
    barsize: 20,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    stream: process.stderr,
  });
  bar.start(1, 0, { message: '' });
  return {
    show: (fraction, message) => bar.update(fraction ?? 0, { message }),
    stop: () => bar.stop(),
  };
}
