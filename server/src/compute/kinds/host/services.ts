// Replicas of web services on the server's own machine: each runs from its image's unpacked root, in a box of its own, and is
// reached at a Unix socket in its folder. They outlive the server, which finds them again by their folder.
// Invariants: one folder per replica, one process per folder; a stopped replica leaves no process; its log is bounded.
import { createHash } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  identify,
  isAlive,
  isMarked,
  killProcess,
  type ProcessIdentity,
  processesMarked,
} from '../../../exec/processes.ts';
import { signalGroup, startDetached } from '../../../exec/programs.ts';
import { boxed, boxedUser, type Isolation } from '../../../exec/sandbox.ts';
import type { HostsServices, LogPart, Replica, ReplicaState } from '../../services.ts';
import { nextPart, readLog } from './replica-log.ts';

export interface HostReplica {
  id: string;
  folder: string;
  process: ProcessIdentity;
  address: { socketPath: string };
  /** `none`: the machine refuses namespaces, and the replica runs with the server's own rights. */
  isolation: Isolation;
}

export interface HostServicesNeeds {
  /** Holds one folder per replica. */
  folder: string;
  isolation: () => Promise<Isolation>;
  /** A log is kept in parts of this size, the last two of them. */
  logPartBytes?: number;
}

const socketFolder = '/run/stellwerk';
/** In the environment of everything inside the box, whatever it forks; its value is `markOf` the replica's folder. */
const mark = 'STELLWERK_REPLICA';
/** In the environment of what attends the box from outside. */
const attendantMark = 'STELLWERK_ATTENDS';
const defaultLogPartBytes = 16 * 1024 * 1024;
const startedWithinMs = 10_000;
const pollMs = 20;
/** For the log's writer to finish after the replica's end. */
const attendantMs = 2_000;

/**
 * Stays beside the replica, outside its box: writes down its own number and the replica's exit code, and keeps the log's last two parts.
 * Lives through the SIGTERM that asks the replica to end. Arguments: folder, size of a log part, number of the first, the program.
 */
const attendScript = `
folder=$1 part=$2 first=$3; shift 3
trap : TERM INT HUP
echo $$ > "$folder/pid.new" && mv "$folder/pid.new" "$folder/pid"
{
  trap : TERM INT HUP
  "$@"
  echo $? > "$folder/exit.new" && mv "$folder/exit.new" "$folder/exit"
} 2>&1 < /dev/null | {
  trap '' TERM INT HUP
  exec split -b "$part" --numeric-suffixes="$first" -a 6 --filter='
    set -- "\${FILE%.*}".*
    while [ $# -gt 1 ]; do rm -f "$1"; shift; done
    exec cat > "$FILE"' - "$folder/log."
}
`;

export class HostServices implements HostsServices<HostReplica> {
  readonly #needs: HostServicesNeeds;

  constructor(needs: HostServicesNeeds) {
    this.#needs = needs;
  }

  async start(replica: Replica): Promise<HostReplica> {
    if (!/^[A-Za-z0-9][\w.-]*$/.test(replica.id))
      throw new Error(`${replica.id} is no replica id: only letters, digits, "." "_" and "-".`);
    const isolation = await this.#needs.isolation();
    const folder = join(this.#needs.folder, replica.id);
    const handle = (process: ProcessIdentity): HostReplica => {
      return {
        id: replica.id,
        folder,
        process,
        address: { socketPath: join(folder, 'socket', 'score.sock') },
        isolation,
      };
    };
    const running = found(folder);
    if (running) return handle(running);
    await this.#end(folder);
    this.#launch(replica, folder, isolation);
    await until(startedWithinMs, () => found(folder) !== undefined || existsSync(join(folder, 'exit')));
    const started = found(folder);
    if (started) return handle(started);
    await pause(pollMs); // for the last of what it printed
    throw new Error(
      `The replica ${replica.id} could not be started: ${(await readLog(folder, 0, this.#logPartBytes)).text.trim() || 'it printed nothing'}`,
    );
  }

  async look(handle: HostReplica): Promise<ReplicaState> {
    const exitFile = join(handle.folder, 'exit');
    if (existsSync(exitFile)) return { state: 'ended', exitCode: Number(readFileSync(exitFile, 'utf8')) };
    return isAlive(handle.process) ? { state: 'running' } : { state: 'ended', exitCode: null };
  }

  async stop(handle: HostReplica, graceMs: number): Promise<void> {
    if (isAlive(handle.process)) signalGroup(handle.process.pid, 'SIGTERM');
    await until(graceMs, async () => (await this.look(handle)).state === 'ended');
    await this.#end(handle.folder);
  }

  logs(handle: HostReplica, offset: number): Promise<LogPart> {
    return readLog(handle.folder, offset, this.#logPartBytes);
  }

  async cleanUp({ id }: { id: string }): Promise<void> {
    const folder = join(this.#needs.folder, id);
    await this.#end(folder);
    rmSync(folder, { recursive: true, force: true });
  }

  get #logPartBytes(): number {
    return this.#needs.logPartBytes ?? defaultLogPartBytes;
  }

  async #end(folder: string): Promise<void> {
    const value = markOf(folder);
    await killAll(mark, value);
    await until(attendantMs, () => processesMarked(attendantMark, value).length === 0);
    await killAll(attendantMark, value);
  }

  /** One that ran before under this id has left its log: the new one goes on in its next part. */
  #launch(replica: Replica, folder: string, isolation: Isolation): void {
    const sockets = join(folder, 'socket');
    for (const old of ['pid', 'exit', 'socket']) rmSync(join(folder, old), { recursive: true, force: true });
    mkdirSync(sockets, { recursive: true, mode: 0o700 });
    if (isolation === 'namespace' && process.getuid?.() === 0) chownSync(sockets, boxedUser.uid, boxedUser.gid);
    const env = { ...replica.env, [mark]: markOf(folder), STELLWERK_SOCKET: `${socketFolder}/score.sock` };
    const program = boxed(
      { ...replica, env, folders: [{ from: sockets, to: socketFolder, writable: true }] },
      isolation,
    );
    const log = [String(this.#logPartBytes), String(nextPart(folder))];
    const args = ['-c', attendScript, 'replica', folder, ...log, program.command, ...program.args];
    startDetached({
      command: 'sh',
      args,
      cwd: '/',
      env: { ...program.env, [attendantMark]: markOf(folder) },
      outputFd: 'ignore',
    });
  }
}

/** Another installation may have a replica of the same id, in another folder; a folder's path is nothing for those inside the box. */
export function markOf(folder: string): string {
  return createHash('sha256').update(folder).digest('hex').slice(0, 32);
}

/** The process that attends the folder's replica, if there is one. */
function found(folder: string): ProcessIdentity | undefined {
  const file = join(folder, 'pid');
  if (!existsSync(file) || existsSync(join(folder, 'exit'))) return undefined;
  const pid = Number(readFileSync(file, 'utf8'));
  return isMarked(pid, attendantMark, markOf(folder)) ? identify(pid) : undefined;
}

/** Again until none is left: between looking and killing one may have started another. */
async function killAll(name: string, value: string): Promise<void> {
  for (let left = processesMarked(name, value); left.length > 0; left = processesMarked(name, value)) {
    for (const pid of left) killProcess(pid, 'SIGKILL');
    await pause(pollMs);
  }
}

async function until(timeoutMs: number, done: () => boolean | Promise<boolean>): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < timeoutMs; waitedMs += pollMs) {
    if (await done()) return true;
    await pause(pollMs);
  }
  return false;
}
