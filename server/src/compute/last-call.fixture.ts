// A life of the service that is killed between two of its calls to a target: what speaks with the target stands in for itself, and dies before
// its call of that number. Nothing of a killed service is known any more, so to have died after a call is to have died before the next one.

type End = () => unknown;

export class LastCall {
  #left: number;
  readonly #open: End[] = [];

  /** Dies before this one; the first is 1. */
  constructor(number: number) {
    this.#left = number - 1;
  }

  /** The same, but that each of these methods is a call. */
  of<T extends object>(speaker: T, calls: readonly (keyof T)[]): T {
    return new Proxy(speaker, {
      get: (of, name) => {
        const value = Reflect.get(of, name, of);
        if (typeof value !== 'function') return value;
        return calls.includes(name as keyof T) ? this.#counted(value.bind(of)) : value.bind(of);
      },
    });
  }

  /** What a process has open is closed with its end. */
  atEnd(close: End): void {
    this.#open.push(close);
  }

  async end(): Promise<void> {
    for (const close of this.#open.splice(0)) await close();
  }

  #counted(call: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
    return (...args) => {
      if (this.#left-- > 0) return call(...args);
      return Promise.reject(new Error('killed'));
    };
  }
}
