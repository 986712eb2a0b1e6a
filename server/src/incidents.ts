// Faults of ours: written to the server's log with an id, which is all that the caller sees.
import { pino } from 'pino';

export class Incidents {
  readonly #log;
  readonly #newId: () => string;

  constructor(file: string, newId: () => string) {
    const destination = pino.destination({ dest: file, mkdir: true, sync: true });
    // On a full disk, too, the server lives on; that it cannot write it down is said once.
    let isTold = false;
    destination.on('error', (error: Error) => {
      if (!isTold) process.stderr.write(`${file} cannot be written: ${error.message}.\n`);
      isTold = true;
    });
    this.#log = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination);
    this.#newId = newId;
  }

  /** Returns the incident's id. */
  record(error: unknown): string {
    const id = this.#newId().slice(0, 8);
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    this.#log.error({ incident: id, stack }, message);
    return id;
  }
}
