// One connection of many over a relay's way, as a stream like any other. It takes no more than its reader has read, and sends no more than the
// other side has granted, so that a slow one holds up neither the others nor our memory.
import { Duplex } from 'node:stream';
import { encoded, encodedGrant, kinds, windowBytes } from './frames.ts';

const largestFrameBytes = 64 * 1024;

export interface RelayedConnection {
  stream: Duplex;
  /** A frame for it came. */
  take(kind: number, content: Buffer): void;
  /** The way is cut. */
  cut(): void;
}

/** `send` tells when there is room for more; `over` is called once, when nothing of it is left. */
export function relayedConnection(
  number: number,
  send: (frame: Buffer, done?: () => void) => void,
  over: () => void,
): RelayedConnection {
  let granted = windowBytes;
  let unread = 0;
  let isGone = false;
  let isSending = false;
  let waiting: { rest: Buffer; done: (error?: Error | null) => void } | undefined;

  function proceed(): void {
    if (!waiting || isSending || granted === 0) return;
    const { rest, done } = waiting;
    const part = rest.subarray(0, Math.min(granted, largestFrameBytes));
    granted -= part.length;
    waiting = part.length < rest.length ? { rest: rest.subarray(part.length), done } : undefined;
    isSending = true;
    send(encoded(number, kinds.data, part), () => {
      isSending = false;
      if (waiting) proceed();
      else done();
    });
  }

  const stream = new Duplex({
    read() {
      if (unread > 0 && !isGone) send(encodedGrant(number, unread));
      unread = 0;
    },
    write(chunk: Buffer, _encoding, done) {
      waiting = { rest: chunk, done };
      proceed();
    },
    final(done) {
      send(encoded(number, kinds.end));
      done();
    },
    destroy(error, done) {
      if (!isGone && !(stream.readableEnded && stream.writableFinished)) send(encoded(number, kinds.reset));
      isGone = true;
      over();
      done(error);
    },
  });
  stream.on('error', () => {}); // whoever reads it hears of it, too

  function take(kind: number, content: Buffer): void {
    if (kind === kinds.data) {
      unread += content.length;
      stream.push(content);
    } else if (kind === kinds.end) stream.push(null);
    else if (kind === kinds.grant) {
      granted += content.readUInt32BE();
      proceed();
    } else if (kind === kinds.reset) cut();
  }

  function cut(): void {
    isGone = true;
    stream.destroy(new Error('The connection was cut.'));
  }

  return { stream, take, cut };
}
