// A copy of the sources in which guards are taken away, and one test run in it.
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { Change, Guard } from './guard.ts';

const root = dirname(dirname(import.meta.dirname));
/** What may be in a checkout, but is none of its sources: by its name anywhere, or at the top, where a server's data may lie too. */
const left = /^(node_modules|__pycache__|dist|.*\.egg-info)$/;
const leftAtTop = /^(\.(?!npmrc$).*|coverage|data)$/;

export interface Outcome {
  /** Why tests of the name failed; empty if all passed. */
  failures: string[];
  passed: number;
  output: string;
}

export class SourceTree implements Disposable {
  /** Where it is. */
  get folder(): string {
    return this.#folder;
  }

  readonly #folder = mkdtempSync(join(tmpdir(), 'stellwerk-guards-'));

  constructor() {
    const wanted = (path: string) =>
      path === root || !(left.test(basename(path)) || (dirname(path) === root && leftAtTop.test(basename(path))));
    cpSync(root, this.#folder, { recursive: true, verbatimSymlinks: true, filter: wanted });
    // Packages are those of the checkout, but our own are the copies.
    const packages = join(this.#folder, 'node_modules');
    mkdirSync(packages);
    for (const name of readdirSync(join(root, 'node_modules'))) {
      const [from, to] = [join(root, 'node_modules', name), join(packages, name)];
      if (name === '@stellwerk') cpSync(from, to, { recursive: true, verbatimSymlinks: true });
      else if (!name.startsWith('.vite') && name !== '.cache') symlinkSync(from, to);
    }
  }

  /** Until what is given back is disposed of. */
  takeAway(changes: readonly Change[]): Disposable {
    const files = new Set(changes.map(({ file }) => file));
    const restore = () => {
      for (const file of files) copyFileSync(join(root, file), join(this.#folder, file));
    };
    try {
      for (const change of changes) this.#change(change);
    } catch (error) {
      restore();
      throw error;
    }
    return { [Symbol.dispose]: restore };
  }

  #change({ file, code, without }: Change): void {
    const path = join(this.#folder, file);
    const text = readFileSync(path, 'utf8');
    const found = text.split(code).length - 1;
    if (found !== 1) throw new Error(`A guard is to be once in ${file}, but is there ${found} times: ${code}`);
    writeFileSync(
      path,
      text.replace(code, () => without),
    );
  }

  run({ test, named }: Pick<Guard, 'test' | 'named'>): Promise<Outcome> {
    return test.endsWith('.py') ? this.#python(test, named) : this.#vitest(test, named);
  }

  async #vitest(test: string, named: string): Promise<Outcome> {
    const report = join(this.#folder, 'report.json');
    const words = named.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const vitest = ['node_modules/vitest/vitest.mjs', 'run', test, '-t', words];
    const output = await this.#program(process.execPath, [...vitest, '--reporter=json', `--outputFile=${report}`]);
    const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
      testResults: { assertionResults: { status: string; failureMessages: string[] }[] }[];
    };
    const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
    const failures = tests.filter(({ status }) => status === 'failed').flatMap((one) => one.failureMessages);
    return { failures, passed: tests.filter(({ status }) => status === 'passed').length, output };
  }

  async #python(test: string, named: string): Promise<Outcome> {
    const args = ['-m', 'unittest', 'discover', '-s', 'python/tests', '-t', 'python/tests', '-p', basename(test)];
    const output = await this.#program('python3', [...args, '-k', named], { PYTHONPATH: 'python/src' });
    const blocks = output.split(/^={70}$/m).slice(1);
    const ran = Number(/^Ran (\d+) tests?/m.exec(output)?.[1] ?? 0);
    return { failures: blocks, passed: ran - blocks.length, output };
  }

  #program(command: string, args: string[], env: Record<string, string> = {}): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const options = { cwd: this.#folder, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 };
    execFile(command, args, options, (_, stdout, stderr) => resolve(stdout + stderr));
    return promise;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
