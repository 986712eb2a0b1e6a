// Follows the routes file: told at once when asked to reload, by the system when the file is renamed into place, and by looking every
// second in case the system says nothing. A file that cannot be read leaves the routes as they are.
import { type FSWatcher, watch } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type Routes, routes } from './routes.ts';

const lookMs = 1_000;

export class RoutesWatch {
  error: string | undefined;
  readonly #file: string;
  readonly #onRoutes: (routes: Routes) => void;
  #seen = '';
  #reading: Promise<void> = Promise.resolve();
  #watcher: FSWatcher;
  #timer: NodeJS.Timeout;

  constructor(file: string, onRoutes: (routes: Routes) => void) {
    this.#file = file;
    this.#onRoutes = onRoutes;
    this.#watcher = watch(dirname(file), (_, name) => {
      if (name === basename(file)) void this.reload();
    });
    this.#timer = setInterval(() => void this.reload(), lookMs);
  }

  /** One at a time and in order, so that an older file never comes after a newer one. */
  reload(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#read());
    return this.#reading;
  }

  close(): void {
    this.#watcher.close();
    clearInterval(this.#timer);
  }

  async #read(): Promise<void> {
    try {
      const { ino, mtimeMs, size } = await stat(this.#file);
      const version = `${ino} ${mtimeMs} ${size}`;
      if (version === this.#seen) return;
      const read = routes.parse(JSON.parse(await readFile(this.#file, 'utf8')));
      this.#onRoutes(read);
      this.#seen = version;
      this.error = undefined;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return; // no service was deployed yet
      this.error = (error as Error).message;
    }
  }
}
