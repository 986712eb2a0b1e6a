// The demo's user: types commands in a folder and reads what comes, with sign-in and server of the demo's own.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Client, createClient } from '@stellwerk/client/client.ts';

/** The command line of this checkout; `--command <file>` takes another, such as that of the published package. */
const given = process.argv.indexOf('--command');
const command = given > 0 ? process.argv[given + 1]! : join(import.meta.dirname, '..', '..', 'cli', 'src', 'main.ts');

/** How a command is started: by this Node, unless STELLWERK_NODE names another. */
export const commandLine = (args: readonly string[]): [file: string, args: string[]] => [
  process.env.STELLWERK_NODE ?? process.execPath,
  ['--disable-warning=ExperimentalWarning', command, ...args],
];

/** A command that takes longer hangs: the slowest builds an environment from nothing, over a slow network. */
const longestMs = 15 * 60_000;

export class StepFailed extends Error {}

export class Shell {
  readonly folder: string;
  readonly environment: Record<string, string>;
  #running: ChildProcess | undefined;
  #isStopped = false;

  constructor(folder: string, configFolder: string) {
    this.folder = folder;
    const { STELLWERK_URL: _, STELLWERK_TOKEN: __, STELLWERK_WORKSPACE: ___, ...inherited } = process.env;
    this.environment = { ...(inherited as Record<string, string>), XDG_CONFIG_HOME: configFolder };
  }

  /** Prints the command as it would be typed, runs it, shows its output as it comes, and fails as it fails. */
  async type(...args: string[]): Promise<string> {
    process.stdout.write(`  $ stellwerk ${args.map(quoted).join(' ')}\n`);
    return await this.run(args, (text) => process.stdout.write(text.replace(/^(?=.)/gm, '    ')));
  }

  /** Ends the command that is under way; nothing more is typed. */
  stop(): void {
    this.#isStopped = true;
    this.#running?.kill('SIGTERM');
  }

  /** To look at results with, signed in as the commands are. */
  client(): Client {
    const file = join(this.environment.XDG_CONFIG_HOME!, 'stellwerk', 'credentials.json');
    const { servers, current } = JSON.parse(readFileSync(file, 'utf8'));
    return createClient({ url: current, token: servers[current].token });
  }

  private async run(args: string[], show: (text: string) => void): Promise<string> {
    if (this.#isStopped) throw new StepFailed('The demo is over.');
    const child = spawn(...commandLine(args), {
      cwd: this.folder,
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running = child;
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      show(text);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
      show(text);
    });
    const late = setTimeout(() => child.kill('SIGKILL'), longestMs);
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => {
        clearTimeout(late);
        if (code === 0) resolve(output);
        else reject(new StepFailed(`stellwerk ${args.join(' ')} ended with ${code}: ${errors.trim().slice(-1_000)}`));
      });
    });
  }
}

const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
