// How a story and its script tell each other how far they are: files in a folder that both see.
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './waiting.ts';

/** For the script: `tell("name")`, `wait("name")`. Its folder comes by `environmentVariables`. */
export const pythonSignals = `
import os, time

def _place(name):
    return os.path.join(os.environ["STORY"], name)

def tell(name, text=""):
    with open(_place(name) + ".new", "w") as file:
        file.write(text)
    os.rename(_place(name) + ".new", _place(name))

def wait(name):
    while not os.path.exists(_place(name)):
        time.sleep(0.02)
`;

export class Signals {
  readonly folder: string;

  constructor(below: string) {
    this.folder = mkdtempSync(join(below, 'signals-'));
  }

  get environmentVariables(): Record<string, string> {
    return { STORY: this.folder };
  }

  tell(name: string): void {
    writeFileSync(join(this.folder, name), '');
  }

  has(name: string): boolean {
    return existsSync(join(this.folder, name));
  }

  /** What was told with it. */
  async told(name: string): Promise<string> {
    return readFileSync(await this.heard(name), 'utf8');
  }

  async heard(name: string): Promise<string> {
    await until(`the script tells "${name}"`, () => this.has(name));
    return join(this.folder, name);
  }
}
