// One line of JSON per request, in a file that is bounded: when it is full it becomes the previous one.
import { createWriteStream, renameSync, statSync, type WriteStream } from 'node:fs';
import type { Answered } from './front.ts';

const fullBytes = 16 * 1024 * 1024;

export class AccessLog {
  readonly #file: string;
  readonly #time: () => Date;
  #stream: WriteStream;
  #sizeBytes: number;

  constructor(file: string, time: () => Date) {
    this.#file = file;
    this.#time = time;
    this.#sizeBytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    this.#stream = createWriteStream(file, { flags: 'a', mode: 0o600 });
  }

  add(answered: Answered): void {
    const line = `${JSON.stringify({ time: this.#time().toISOString(), ...answered, durationMs: Math.round(answered.durationMs * 10) / 10 })}\n`;
    if (this.#sizeBytes + line.length > fullBytes) this.#turn();
    this.#sizeBytes += line.length;
    this.#stream.write(line);
  }

  #turn(): void {
    this.#stream.end();
    renameSync(this.#file, `${this.#file}.1`);
    this.#stream = createWriteStream(this.#file, { flags: 'a', mode: 0o600 });
    this.#sizeBytes = 0;
  }
}
