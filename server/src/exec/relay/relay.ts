// The way back to this server for what runs where it cannot be reached: a small program of ours over there (`stellwerk.runner.relay`) listens on a
// socket beside the runner, and what is said to it comes here over that program's own input and output, whatever carries them.
// Invariants: it lives as long as its carrier; each connection over there is one here, each end of it is passed on by itself; once the way is cut
// all of them are, on both sides.
import type { Duplex, Readable, Writable } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { type RelayedConnection, relayedConnection } from './connection.ts';
import { encoded, type Frame, FrameReader, kinds } from './frames.ts';

/** The input and output of the program over there. */
export interface Carrier {
  input: Writable;
  output: Readable;
  /** Ends both, at once. */
  close(): void;
}

const laidWithinMs = 30_000;
const askEveryMs = 15_000;
const silentForMs = 60_000;

export class Relay {
  readonly #carrier: Carrier;
  readonly #connectHere: () => Duplex;
  readonly #connections = new Map<number, RelayedConnection>();
  readonly #laid = Promise.withResolvers<void>();
  readonly #onCut: (() => void)[] = [];
  readonly #asking: NodeJS.Timeout;
  readonly #reader: FrameReader;
  #heardAt = performance.now();
  #isOpen = true;

  private constructor(carrier: Carrier, connectHere: () => Duplex) {
    this.#carrier = carrier;
    this.#connectHere = connectHere;
    this.#reader = new FrameReader(this.#laid.resolve, (frame) => this.#take(frame));
    this.#asking = setInterval(() => this.#ask(), askEveryMs).unref();
    carrier.output.on('data', (bytes: Buffer) => this.#hear(bytes));
    for (const stream of [carrier.input, carrier.output])
      for (const event of ['error', 'end', 'close']) stream.on(event, () => this.close());
  }

  /** Once whoever connects over there speaks with what `connectHere` gives. */
  static async lay(carrier: Carrier, connectHere: () => Duplex): Promise<Relay> {
    const relay = new Relay(carrier, connectHere);
    const timer = setTimeout(() => relay.close(), laidWithinMs);
    try {
      await relay.#laid.promise;
      return relay;
    } finally {
      clearTimeout(timer);
    }
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Once, when nothing can go over it any more. */
  onCut(listener: () => void): void {
    if (this.#isOpen) this.#onCut.push(listener);
    else listener();
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    clearInterval(this.#asking);
    const said = this.#reader.saidInstead.split('\n').at(-1);
    this.#laid.reject(
      new TargetError('later', `The way back to this server could not be laid${said ? `: ${said}` : '.'}`),
    );
    this.#carrier.close();
    for (const connection of this.#connections.values()) connection.cut();
    for (const listener of this.#onCut.splice(0)) listener();
  }

  #hear(bytes: Buffer): void {
    this.#heardAt = performance.now();
    try {
      this.#reader.take(bytes);
    } catch {
      this.close(); // that is no relay
    }
  }

  #ask(): void {
    if (performance.now() - this.#heardAt > silentForMs) this.close();
    else this.#send(encoded(0, kinds.ping));
  }

  #take({ connection, kind, content }: Frame): void {
    if (kind === kinds.open) this.#open(connection);
    else this.#connections.get(connection)?.take(kind, content);
  }

  #open(number: number): void {
    const there = relayedConnection(
      number,
      (frame, done) => this.#send(frame, done),
      () => this.#connections.delete(number),
    );
    this.#connections.set(number, there);
    join(there.stream, this.#connectHere());
  }

  #send(frame: Buffer, done?: () => void): void {
    if (this.#isOpen) this.#carrier.input.write(frame, () => done?.());
    else done?.();
  }
}

function join(there: Duplex, here: Duplex): void {
  for (const [from, to] of [
    [there, here],
    [here, there],
  ] as const) {
    from.on('error', () => to.destroy());
    from.on('close', () => {
      if (!from.readableEnded) to.destroy();
    });
    from.pipe(to);
  }
}
