// Starts programs on this machine. No other room may: here it is decided that nothing passes through a shell,
// that a program's environment holds only what it was given, that output is bounded, and that a program
// which is stopped takes its whole process group with it.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { keptOf } from './kept-output.ts';

export interface Program {
  command: string;
  args: readonly string[];
  cwd?: string;
  /** The whole environment of the program; nothing is inherited but PATH, HOME, LANG and TZ. */
  env?: Readonly<Record<string, string>>;
  input?: string | Uint8Array;
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Told each line of standard output and error while the program runs. */
  onLine?: (line: string) => void;
  /** Another Unix user to run as; needs root. */
  user?: { uid: number; gid: number };
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Between SIGTERM and SIGKILL. */
const graceMs = 3_000;

export class ProgramFailed extends Error {
  readonly ended: Ended;
  constructor(program: Pick<Program, 'command'>, ended: Ended, reason: string) {
    super(`${program.command} ${reason}: ${lastLines(ended.stderr || ended.stdout, 5) || 'it printed nothing'}`);
    this.name = 'ProgramFailed';
    this.ended = ended;
  }
}

/** The environment every program gets: enough to find programs, nothing secret. */
export function plainEnvironment(
  extra: Readonly<Record<string, string>> = {},
  from = inherited,
): Record<string, string> {
  return { ...from, ...extra };
}

let inherited: Record<string, string> = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** Called once by `config.ts`, the only file that reads the environment: what programs may inherit of it. */
export function inheritEnvironment(environment: Record<string, string>): void {
  inherited = environment;
}

/** Runs a program to its end, whatever its exit code. Rejects if it cannot be started, times out or is aborted. */
export function run(program: Program): Promise<Ended> {
  const { promise, resolve, reject } = Promise.withResolvers<Ended>();
  const child = spawn(program.command, program.args, {
    cwd: program.cwd,
    env: plainEnvironment(program.env),
    stdio: [program.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    detached: true,
    ...program.user,
  });
  const [stdout, stderr] = [child.stdout as Readable, child.stderr as Readable].map((stream) => {
    if (program.onLine) createInterface({ input: stream }).on('line', program.onLine);
    return keptOf(stream);
  }) as [() => string, () => string];
  let stopped: string | undefined;
  const stop = (reason: string) => {
    stopped ??= reason;
    stopGroup(child);
  };
  const timer = program.timeoutMs
    ? setTimeout(() => stop(`did not end within ${program.timeoutMs} ms`), program.timeoutMs)
    : undefined;
  const onAbort = () => stop('was canceled');
  program.signal?.addEventListener('abort', onAbort, { once: true });
  if (program.signal?.aborted) onAbort();
  child.stdin?.on('error', () => {}); // the program may end without reading its input
  child.stdin?.end(program.input);
  const settle = () => {
    clearTimeout(timer);
    program.signal?.removeEventListener('abort', onAbort);
  };
  child.on('error', (error) => {
    settle();
    reject(
      new ProgramFailed(
        program,
        { code: null, signal: null, stdout: '', stderr: error.message },
        'could not be started',
      ),
    );
  });
  child.on('close', (code, signal) => {
    settle();
    const ended = { code, signal, stdout: stdout(), stderr: stderr() };
    if (stopped) reject(new ProgramFailed(program, ended, stopped));
    else resolve(ended);
  });
  return promise;
}

/** Runs a program that must succeed and returns its standard output. */
export async function output(program: Program): Promise<string> {
  const ended = await run(program);
  if (ended.code !== 0)
    throw new ProgramFailed(program, ended, `ended with ${ended.signal ?? `exit code ${ended.code}`}`);
  return ended.stdout;
}

/** Starts a program that outlives this process. Its output goes to the given open file. */
export function startDetached(program: Program & { outputFd: number | 'ignore' }): { pid: number } {
  const child = spawn(program.command, program.args, {
    cwd: program.cwd,
    env: plainEnvironment(program.env),
    stdio: ['ignore', program.outputFd, program.outputFd],
    detached: true,
    ...program.user,
  });
  child.on('error', () => {}); // seen by the caller as a missing pid
  child.unref();
  if (child.pid === undefined)
    throw new ProgramFailed(program, { code: null, signal: null, stdout: '', stderr: '' }, 'could not be started');
  return { pid: child.pid };
}

function stopGroup(child: ChildProcess): void {
  signalGroup(child.pid, 'SIGTERM');
  setTimeout(() => signalGroup(child.pid, 'SIGKILL'), graceMs).unref();
}

/** Signals a whole process group; a group that is gone already is no error. */
export function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
