// The way back to this server from each container that runs: laid by a program of ours beside the runner, through the connection to the engine.
// One for each container; laid again when it was cut.
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { Relay } from '../../../exec/relay/relay.ts';
import { endsSoon, programIn } from './containers.ts';
import type { Engine } from './engine.ts';
import { python, relayLink } from './places.ts';

export class Relays {
  readonly #connectHere: () => Duplex;
  readonly #laid = new Map<string, Promise<Relay | undefined>>();

  constructor(connectHere: () => Duplex) {
    this.#connectHere = connectHere;
  }

  /** There is one for the container, unless that has ended. */
  async ensure(engine: Engine, container: string): Promise<void> {
    const key = `${engine.name} ${container}`;
    let laying = this.#laid.get(key);
    if (!laying) {
      laying = this.#lay(engine, container);
      this.#laid.set(key, laying);
      const forget = () => {
        if (this.#laid.get(key) === laying) this.#laid.delete(key);
      };
      laying.then((relay) => (relay ? relay.onCut(forget) : forget()), forget);
    }
    await laying;
  }

  async close(engine: Engine, container: string): Promise<void> {
    (await this.#laid.get(`${engine.name} ${container}`)?.catch(() => undefined))?.close();
  }

  /** As the end of this process would. */
  async closeAll(): Promise<void> {
    for (const laying of this.#laid.values()) (await laying.catch(() => undefined))?.close();
  }

  async #lay(engine: Engine, container: string): Promise<Relay | undefined> {
    let told = () => '';
    try {
      const program = await programIn(engine, container, [...python, '-m', 'stellwerk.runner.relay', relayLink]);
      told = program.stderr;
      return await Relay.lay(program, this.#connectHere);
    } catch (error) {
      if (await endsSoon(engine, container)) return undefined;
      const why = told().split('\n').at(-1);
      throw new TargetError('later', why ? `${(error as Error).message} ${why}` : (error as Error).message);
    }
  }
}
