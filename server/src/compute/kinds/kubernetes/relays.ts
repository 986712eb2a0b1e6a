// The way back to this server from each pod: laid by a program of ours in its second container, through the connection to the cluster. One for
// each pod; laid again when it was cut.
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { Relay } from '../../../exec/relay/relay.ts';
import { type Api, Refusal } from './api.ts';
import { type Container, programIn } from './exec.ts';
import { relayLink } from './places.ts';
import { onceUnpacked } from './unpacking.ts';

export class Relays {
  readonly #connectHere: () => Duplex;
  readonly #laid = new Map<string, Promise<Relay>>();

  constructor(connectHere: () => Duplex) {
    this.#connectHere = connectHere;
  }

  async ensure(api: Api, where: Container): Promise<void> {
    const key = keyOf(api, where);
    let laying = this.#laid.get(key);
    if (!laying) {
      laying = this.#lay(api, where);
      this.#laid.set(key, laying);
      const forget = () => {
        if (this.#laid.get(key) === laying) this.#laid.delete(key);
      };
      laying.then((relay) => relay.onCut(forget), forget);
    }
    await laying;
  }

  async close(api: Api, where: Container): Promise<void> {
    (await this.#laid.get(keyOf(api, where))?.catch(() => undefined))?.close();
  }

  /** As the end of this process would. */
  async closeAll(): Promise<void> {
    for (const laying of this.#laid.values()) (await laying.catch(() => undefined))?.close();
  }

  async #lay(api: Api, where: Container): Promise<Relay> {
    let told = () => '';
    try {
      const program = await programIn(api, where, onceUnpacked('-m', 'stellwerk.runner.relay', relayLink));
      told = program.stderr;
      return await Relay.lay(program, this.#connectHere);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      const why = told().split('\n').at(-1);
      throw new TargetError('later', why ? `${(error as Error).message} ${why}` : (error as Error).message);
    }
  }
}

const keyOf = (api: Api, { namespace, pod }: Container) => `${api.name} ${namespace} ${pod}`;
