// What goes between this server and a relay of ours beside a runner (`python/src/stellwerk/runner/relay.py`, which says the same): many
// connections over one stream. A frame: connection (4 bytes), kind (1), length (4), and so many bytes.

export const kinds = { open: 0, data: 1, end: 2, reset: 3, grant: 4, ping: 5 } as const;

/** The relay says this first; what a shell over there prints before it is passed over. */
export const greeting = Buffer.from('\nstellwerk relay 1\n');

/** So much of a connection may be under way before the other side has granted more. */
export const windowBytes = 256 * 1024;

const headBytes = 9;
const longestBytes = 1024 * 1024;
const mostBeforeGreeting = 64 * 1024;

export interface Frame {
  connection: number;
  kind: number;
  content: Buffer;
}

export function encoded(connection: number, kind: number, content: Uint8Array = Buffer.alloc(0)): Buffer {
  const frame = Buffer.allocUnsafe(headBytes + content.length);
  frame.writeUInt32BE(connection, 0);
  frame.writeUInt8(kind, 4);
  frame.writeUInt32BE(content.length, 5);
  frame.set(content, headBytes);
  return frame;
}

export function encodedGrant(connection: number, bytes: number): Buffer {
  const content = Buffer.alloc(4);
  content.writeUInt32BE(bytes);
  return encoded(connection, kinds.grant, content);
}

/** Takes a stream apart, however its bytes come. */
export class FrameReader {
  readonly #onGreeting: () => void;
  readonly #onFrame: (frame: Frame) => void;
  #rest: Buffer = Buffer.alloc(0);
  #greeted = false;

  constructor(onGreeting: () => void, onFrame: (frame: Frame) => void) {
    this.#onGreeting = onGreeting;
    this.#onFrame = onFrame;
  }

  /** What came before the greeting: a relay that could not be started says why. */
  get saidInstead(): string {
    return this.#greeted ? '' : this.#rest.toString('utf8').trim();
  }

  take(bytes: Buffer): void {
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes;
    if (!this.#greeted && !this.#greet()) return;
    let at = 0;
    while (this.#rest.length - at >= headBytes) {
      const length = this.#rest.readUInt32BE(at + 5);
      if (length > longestBytes) throw new Error('What comes over the way is not from a relay.');
      if (this.#rest.length - at - headBytes < length) break;
      const connection = this.#rest.readUInt32BE(at);
      const kind = this.#rest.readUInt8(at + 4);
      at += headBytes;
      this.#onFrame({ connection, kind, content: this.#rest.subarray(at, at + length) });
      at += length;
    }
    this.#rest = this.#rest.subarray(at);
  }

  #greet(): boolean {
    const at = this.#rest.indexOf(greeting);
    if (at < 0) {
      this.#rest = this.#rest.subarray(-mostBeforeGreeting);
      return false;
    }
    this.#greeted = true;
    this.#rest = this.#rest.subarray(at + greeting.length);
    this.#onGreeting();
    return true;
  }
}
