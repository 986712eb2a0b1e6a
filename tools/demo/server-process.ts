// The demo's server, a process of its own on a fresh data folder; and the proof, at the end, that nothing of it is left.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { commandLine, StepFailed } from './shell.ts';

const startMs = 60_000;
const stopMs = 60_000;

export interface Started {
  url: string;
  data: string;
  pid: number;
  signIn: string;
}

export class ServerProcess {
  readonly started: Started;
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess, started: Started) {
    this.child = child;
    this.started = started;
  }

  static async start(data: string, environment: Record<string, string>): Promise<ServerProcess> {
    const args = ['up', '--data', data, '--port', '0', '--json'];
    const child = spawn(...commandLine(args), {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true, // Ctrl+C is for the demo, which stops the server itself
    });
    const { promise, resolve, reject } = Promise.withResolvers<Started>();
    createInterface({ input: child.stdout! }).once('line', (line) => resolve(JSON.parse(line) as Started));
    child.once('exit', (code) => reject(new StepFailed(`The server ended with ${code} instead of starting.`)));
    const late = setTimeout(() => reject(new StepFailed('The server did not start in time.')), startMs);
    try {
      return new ServerProcess(child, await promise);
    } finally {
      clearTimeout(late);
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
    this.child.kill('SIGTERM');
    const outcome = await Promise.race([ended.then(() => 'ended'), pause(stopMs, 'late', { ref: false })]);
    if (outcome === 'late') throw new StepFailed('The server did not stop when it was told to.');
  }
}

export interface ProcessFound {
  pid: number;
  command: string;
}

/** Processes that have anything of a folder open or named: started by the demo, whoever their parent is now. */
export function processesOf(folder: string): ProcessFound[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((name) => ({ pid: Number(name), command: textOf(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim() }))
    .filter(({ pid, command: typed }) => typed.includes(folder) || belongsTo(pid, folder));
}

function belongsTo(pid: number, folder: string): boolean {
  const links = [`/proc/${pid}/cwd`, `/proc/${pid}/root`, ...openFilesOf(pid)];
  return links.some((link) => linkTarget(link).startsWith(folder)) || textOf(`/proc/${pid}/environ`).includes(folder);
}

function openFilesOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
  } catch {
    return []; // ended meanwhile, or another user's
  }
}

function linkTarget(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
