// A clock that a story sets, for processes that are started with its environment; by libfaketime, where it is installed.
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const libraries = existsSync('/usr/lib') ? readdirSync('/usr/lib') : [];
export const fakes = libraries.map((name) => join('/usr/lib', name, 'faketime', 'libfaketime.so.1')).find(existsSync);

/** Steady clocks go on as they are. */
export class Clock {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
    this.set('+0');
  }

  get environment(): Record<string, string> {
    return {
      LD_PRELOAD: fakes!,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }

  /** By how much it is off: `-2h`. */
  set(offset: string): void {
    writeFileSync(this.#file, `${offset}\n`);
  }
}
