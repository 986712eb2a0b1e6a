// The connections to machines that are reached by SSH: one for each, shared by all that is done there, made when it is needed and made anew
// after a cut.
import type { SshConnection } from './connection.ts';

/** A connection, with what was made ready over it. */
export interface Connected {
  connection: SshConnection;
}

/** An unused one is closed after this time. */
const keptForMs = 120_000;

const kept = new Set<SshConnection>();

/** At the end of the service: nobody waits for connections that are only kept. */
export function closeConnections(): void {
  for (const connection of [...kept]) connection.close();
}

export class SshConnections<C extends Connected> {
  readonly #made = new Map<string, { made: Promise<C>; unused?: NodeJS.Timeout }>();

  /** That of the name, or the one that `make` makes. */
  async get(name: string, make: () => Promise<C>): Promise<C> {
    let entry = this.#made.get(name);
    if (!entry) {
      const made = make();
      const own: { made: Promise<C>; unused?: NodeJS.Timeout } = { made };
      entry = own;
      this.#made.set(name, own);
      const forget = () => {
        clearTimeout(own.unused);
        if (this.#made.get(name) === own) this.#made.delete(name);
      };
      made.then(({ connection }) => {
        kept.add(connection);
        connection.onCut(() => {
          kept.delete(connection);
          forget();
        });
      }, forget);
    }
    const connected = await entry.made;
    clearTimeout(entry.unused);
    if (connected.connection.isOpen) entry.unused = setTimeout(() => connected.connection.close(), keptForMs).unref();
    return connected;
  }
}
